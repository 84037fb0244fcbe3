"""All commands together, and how the process ends."""

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from htcgrid.cli import (
    agents,
    attach,
    cancel,
    config,
    data,
    dlq,
    doctor,
    errors,
    pause,
    results,
    status,
    submit,
    task,
    tasks,
)
from htcgrid.cli import list as list_command
from htcgrid.cli.exits import FAILED, WRONG_INPUT, BadInput, OutputFailed
from htcgrid.cli.output import drop_output, finish, print_line, say, use_utf8
from htcgrid.errors import EmptySession, GridError, InvalidData, InvalidOption, InvalidTask

COMMANDS = "htcgrid.commands"
"""Entry points of this group are Typer applications, each mounted under its own name."""

_EXIT_CODES = """
Exit codes: 0 done; 1 the grid refuses, a session or task did not complete, a check found a fault, or the output cannot
be written; 2 wrong usage or wrong input: nothing was changed, and what was already sent of a stream of tasks was
cancelled; 130 interrupted by Ctrl-C (143 by SIGTERM), and the
session goes on.
"""


class _Commands(TyperGroup):
    """Ends with a sentence and an exit code where a command raises."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # the base names a class of Typer's own
        try:
            return super().invoke(ctx)
        except (BadInput, InvalidData, InvalidOption, InvalidTask, EmptySession) as error:
            say(f"htcgrid: {error}")
            raise typer.Exit(WRONG_INPUT) from error
        except (GridError, OutputFailed) as error:
            say(f"htcgrid: {error}")
            raise typer.Exit(FAILED) from error


app = typer.Typer(
    name="htcgrid",
    cls=_Commands,
    help="Run very many computations on a grid.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    submit,
    attach,
    status,
    list_command,
    cancel,
    pause,
    results,
    errors,
    tasks,
    task,
    dlq,
    data,
    agents,
    config,
    doctor,
):
    command.add_to(app)


@app.command("version")
def print_version() -> None:
    """Print the connector's version."""
    print_line(version("htcgrid"))


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


def main() -> None:
    """Run the command line. The exit codes are in `htcgrid --help`."""
    use_utf8()
    for command in entry_points(group=COMMANDS):
        _mount(command)
    code: object = FAILED
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:  # of what libraries print, such as the text of --help
        say(f"htcgrid: the output cannot be written: {error.strerror}")
        drop_output()
    sys.exit(_written(code))  # type: ignore[arg-type]  # what SystemExit holds


def _written(code: object) -> object:
    """The exit code, when all output has been written."""
    try:
        finish()
    except OutputFailed as error:
        if code == 0:
            say(f"htcgrid: {error}")
        return code or FAILED
    return code


def _mount(command: EntryPoint) -> None:
    """Mount commands of another part; loaded only when they are asked for, since that part may be large."""
    if command.name not in sys.argv and "_HTCGRID_COMPLETE" not in os.environ:
        app.add_typer(_stand_in(command), name=command.name)
        return
    try:
        app.add_typer(command.load(), name=command.name)
    except (ImportError, AttributeError) as error:
        say(f"htcgrid: the command {command.name!r} cannot be loaded: {error}")


def _stand_in(command: EntryPoint) -> typer.Typer:
    """What the list of commands shows of commands that are not loaded."""
    summary = command.dist.metadata["Summary"] if command.dist else ""
    # The list has one line for it, which the part before the colon fits.
    stand_in = typer.Typer(help=summary.partition(":")[0].removesuffix(".") + ".")
    stand_in.callback()(lambda: None)
    return stand_in
