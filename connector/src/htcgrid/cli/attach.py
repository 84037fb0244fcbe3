"""`htcgrid attach`: the results of a session as they come, and its progress on standard error."""

from typing import TYPE_CHECKING

import typer

from htcgrid.cli.exits import FAILED, INTERRUPTED
from htcgrid.cli.output import on_terminal, print_line, say
from htcgrid.cli.parameters import ProfileOption, SessionArgument, connected
from htcgrid.cli.task_json import line_of

if TYPE_CHECKING:
    from htcgrid.session import Session


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("attach")(attach)


def attach(session: SessionArgument, profile: ProfileOption = None) -> None:
    """Follow a session, and print its results as they come.

    Results are JSON Lines on standard output, from the first one on; progress is on standard error. Ctrl-C ends the
    command and not the session.
    """
    with connected(profile) as grid:
        raise typer.Exit(follow(grid.attach(session)))


def follow(session: "Session") -> int:
    """Print each result as it comes, until the session has its verdict. Gives the exit code."""
    try:
        # On a terminal the results themselves show the progress, and a bar would be drawn over them.
        for task in session.as_completed(progress=not on_terminal()):
            print_line(line_of(task))
        status = session.wait()
    except KeyboardInterrupt:
        return goes_on(session)
    if status.state.value == "COMPLETED":
        return 0
    account = status.account
    what = f"{account.failed:,} failed, {account.cancelled:,} cancelled"
    say(f"htcgrid: session {session.id} is {status.state.value}: {what}")
    return FAILED


def goes_on(session: "Session") -> int:
    """Tell that a session goes on although nobody follows it any more. Gives the exit code."""
    say(f"htcgrid: the session goes on; to follow it again: htcgrid attach {session.id}")
    return INTERRUPTED
