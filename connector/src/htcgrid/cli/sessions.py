"""Commands about sessions: status, list, cancel, pause, resume."""

from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import FAILED, BadInput
from htcgrid.cli.output import moment, print_fields, print_json, print_line, print_table, say
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, YesOption, connected

if TYPE_CHECKING:
    from htcgrid_events import CancelledSessions, SessionStatus, SessionSummary


class State(StrEnum):
    """The states of sessions, as the command line spells them."""

    OPEN = "open"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status")(print_status)
    app.command("list")(list_sessions)
    app.command("cancel")(cancel)
    app.command("pause")(pause)
    app.command("resume")(resume)


def print_status(session: SessionArgument, profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """Print how a session stands."""
    with connected(profile) as grid:
        show_status(grid.attach(session).status(), as_json=as_json)


def list_sessions(
    state: Annotated[State | None, typer.Option(help="Only sessions in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the newest first; 0 for all.")] = 20,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List your sessions, the newest first."""
    with connected(profile) as grid:
        found = islice(grid.sessions(state=None if state is None else state.value.upper()), limit or None)
        if as_json:
            for summary in found:
                print_json(summary)
            return
        heads = ("SESSION", "STATE", "CREATED", "ENDED", "TASKS", "FAILED")
        print_table(heads, [_row(summary) for summary in found], right=(4, 5))


def cancel(
    sessions: Annotated[list[str] | None, typer.Argument(metavar="SESSION...", help="The sessions' ids.")] = None,
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
        done = grid.cancel(None if every else sessions or [])
    _show_cancelled(done, as_json=as_json)
    if done.unknown:
        say(f"htcgrid: you have no session {', '.join(done.unknown)}: the id is not right, or the session has expired")
        raise typer.Exit(FAILED)


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


def show_status(status: "SessionStatus", *, as_json: bool) -> None:
    """Print how a session stands."""
    if as_json:
        print_json(status)
        return
    account = status.account
    asked = f", stopping ({status.stop_reason})" if status.stop_reason and not status.state.ended else ""
    held = ", paused" if status.paused and not status.state.ended else ""
    fields = [
        ("session", status.session_id),
        ("state", f"{status.state.value}{asked}{held}"),
        ("tasks", f"{account.submitted:,} in {status.chunks:,} chunks"),
        ("completed", f"{account.completed:,}"),
        ("failed", f"{account.failed:,}"),
        ("cancelled", f"{account.cancelled:,}"),
        ("open", f"{account.submitted - account.finished:,}"),
        ("created", moment(status.created_at)),
        ("deadline", moment(status.deadline_at)),
    ]
    print_fields([*fields, ("ended", moment(status.ended_at))] if status.ended_at else fields)


def _row(summary: "SessionSummary") -> tuple[str, ...]:
    account = summary.account
    return (
        summary.session_id,
        summary.state.value,
        moment(summary.created_at),
        moment(summary.ended_at),
        f"{account.submitted:,}" if account else "-",
        f"{account.failed:,}" if account else "-",
    )


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
