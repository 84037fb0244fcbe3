"""`htcgrid cancel`: cancel the open tasks of sessions."""

from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import FAILED, BadInput
from htcgrid.cli.output import print_fields, print_json, print_line, say
from htcgrid.cli.parameters import JsonOption, ProfileOption, YesOption, connected

if TYPE_CHECKING:
    from htcgrid_events import CancelledSessions


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("cancel")(cancel)


def cancel(
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="SESSION...", help="The sessions' ids, or their first digits.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of your open sessions.")] = False,
    yes: YesOption = False,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Cancel the open tasks of sessions."""
    if bool(sessions) == every:
        raise BadInput("give the ids of sessions, or --all")
    if every and not yes:
        typer.confirm("Cancel all of your open sessions?", abort=True, err=True)
    with connected(profile) as grid:
        done = grid.cancel(None if every else sessions)
    _show_cancelled(done, as_json=as_json)
    if done.unknown:
        say(f"htcgrid: you have no session {', '.join(done.unknown)}: the id is not right, or the session has expired")
        raise typer.Exit(FAILED)


def _show_cancelled(done: "CancelledSessions", *, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    states = {"stopping": done.stopping, "ended already": done.ended}
    rows = [(session_id, what) for what, ids in states.items() for session_id in ids]
    if rows:
        print_fields(rows)
    elif not done.unknown:
        print_line("There is no open session.")
