"""`htcgrid tasks`: the tasks of a session and their states."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from htcgrid.cli.output import print_json, print_table
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, connected

if TYPE_CHECKING:
    from htcgrid.session import Session


class State(StrEnum):
    """The states of tasks, as the command line spells them."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRY = "retry"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_OUTCOMES = {"C": "COMPLETED", "F": "FAILED", "X": "CANCELLED"}


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("tasks")(list_tasks)


def list_tasks(
    session: SessionArgument,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most this many; 0 for all.")] = 100,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List a session's tasks and their states."""
    with connected(profile) as grid:
        wanted = None if state is None else state.value.upper()
        found = (task for task in _tasks(grid.attach(session)) if wanted in (None, task["state"]))
        rows = islice(found, limit or None)
        if as_json:
            for task in rows:
                print_json(task)
            return
        heads = ("TASK", "STATE", "CHUNK", "ATTEMPT", "AGENT")
        print_table(
            heads,
            [
                tuple(str(value or "-") if name == "agent" else str(value) for name, value in task.items())
                for task in rows
            ],
            right=(0, 2, 3),
        )


def _tasks(session: "Session") -> Iterator[dict[str, Any]]:
    for chunk in session.chunks():
        for offset, code in enumerate(chunk.outcomes):
            yield {
                "index": chunk.first_task + offset,
                "state": _OUTCOMES.get(code, chunk.state.value),
                "chunk": chunk.chunk,
                "attempt": chunk.attempt,
                "agent": chunk.owner,
            }
