"""`htcgrid pause` and `htcgrid resume`: hold the queued tasks of a session, and let them go on."""

import typer

from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, connected
from htcgrid.cli.status import show_status


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("pause")(pause)
    app.command("resume")(resume)


def pause(session: SessionArgument, profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """Hold a session's queued tasks.

    Running ones finish. The deadline still counts.
    """
    with connected(profile) as grid:
        show_status(grid.attach(session).pause(), as_json=as_json)


def resume(session: SessionArgument, profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """Let a paused session go on."""
    with connected(profile) as grid:
        show_status(grid.attach(session).resume(), as_json=as_json)
