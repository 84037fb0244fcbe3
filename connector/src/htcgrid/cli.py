"""The command line. Other parts of the grid add their commands by the entry point group `htcgrid.commands`."""

import sys
from datetime import timedelta
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.errors import GridError
from htcgrid.grid import Grid

if TYPE_CHECKING:
    from htcgrid_events import SessionStatus

COMMANDS = "htcgrid.commands"
"""Entry points of this group are Typer applications, each mounted under its own name."""

app = typer.Typer(
    name="htcgrid",
    help="Run very many computations on a grid.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_REQUEST_TIMEOUT = timedelta(seconds=10)
"""Shorter than a program's: somebody sits before the screen, and can repeat the command."""

_Id = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
_ProfileFile = Annotated[
    Path | None, typer.Option("--profile", help="The grid's profile. Default: $HTCGRID_PROFILE, else ~/.htcgrid.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("version")
def print_version() -> None:
    """Print the connector's version."""
    typer.echo(version("htcgrid"))


def _print_version_and_exit(*, asked: bool) -> None:
    if asked:
        print_version()
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version_and_exit, is_eager=True, help="Print the connector's version."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command("status")
def print_status(session: _Id, profile: _ProfileFile = None, *, as_json: _Json = False) -> None:
    """Print how a session stands."""
    with Grid.connect(profile, request_timeout=_REQUEST_TIMEOUT) as grid:
        _print_status(grid.attach(session).status(), as_json=as_json)


@app.command("cancel")
def cancel(session: _Id, profile: _ProfileFile = None, *, as_json: _Json = False) -> None:
    """Cancel a session's open tasks."""
    with Grid.connect(profile, request_timeout=_REQUEST_TIMEOUT) as grid:
        _print_status(grid.attach(session).cancel(), as_json=as_json)


def _print_status(status: "SessionStatus", *, as_json: bool) -> None:
    if as_json:
        typer.echo(status.model_dump_json())
        return
    account = status.account
    asked = f", stopping ({status.stop_reason})" if status.stop_reason and not status.state.ended else ""
    typer.echo(f"session    {status.session_id}")
    typer.echo(f"state      {status.state.value}{asked}")
    typer.echo(f"tasks      {account.submitted:,} in {status.chunks:,} chunks")
    typer.echo(f"completed  {account.completed:,}")
    typer.echo(f"failed     {account.failed:,}")
    typer.echo(f"cancelled  {account.cancelled:,}")
    typer.echo(f"open       {account.submitted - account.finished:,}")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the grid or the session says no, 2 wrong usage, 130 interrupted."""
    for command in entry_points(group=COMMANDS):
        try:
            app.add_typer(command.load(), name=command.name)
        except (ImportError, AttributeError) as error:
            typer.echo(f"htcgrid: the command {command.name!r} cannot be loaded: {error}", err=True)
    try:
        app()
    except GridError as error:
        typer.echo(f"htcgrid: {error}", err=True)
        sys.exit(1)
