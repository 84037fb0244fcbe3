"""`htcgrid list`: the user's sessions, the newest first."""

from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.output import moment, print_json, print_table
from htcgrid.cli.parameters import JsonOption, ProfileOption, connected

if TYPE_CHECKING:
    from htcgrid_events import SessionSummary


class State(StrEnum):
    """The states of sessions, as the command line spells them."""

    OPEN = "open"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("list")(list_sessions)


def list_sessions(
    state: Annotated[State | None, typer.Option(help="Only sessions in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most this many; 0 for all.")] = 20,
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
