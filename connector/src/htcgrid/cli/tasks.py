"""Commands about the tasks of a session: tasks, task show, task replay."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from htcgrid.cli import replay
from htcgrid.cli.output import moment, print_fields, print_indented, print_json, print_line, print_table
from htcgrid.cli.parameters import IndexArgument, JsonOption, ProfileOption, SessionArgument, connected

if TYPE_CHECKING:
    from htcgrid.session import Session
    from htcgrid_events import Attempt, Stages, TaskError, TaskRecord


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
    """Add the commands of this module."""
    app.command("tasks")(list_tasks)
    task = typer.Typer(help="Look at one task, or run it again here.", no_args_is_help=True)
    task.command("show")(show_task)
    replay.add_to(task)
    app.add_typer(task, name="task")


def list_tasks(
    session: SessionArgument,
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 for all.")] = 100,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List a session's tasks as they are now."""
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


def show_task(
    session: SessionArgument, index: IndexArgument, profile: ProfileOption = None, *, as_json: JsonOption = False
) -> None:
    """Show one task: its way, its attempts, its error."""
    with connected(profile) as grid:
        record = grid.attach(session).task(index)
    if as_json:
        print_json(record)
        return
    options = record.options
    print_fields(
        [
            ("task", record.task_id),
            ("state", record.state.value),
            ("chunk", str(record.chunk)),
            ("agent", record.owner or "-"),
            ("attempts", str(record.attempts)),
            ("retries", f"{record.retries} of {options.max_retries}"),
            ("partition", f"{options.partition}, priority {options.priority}"),
            ("lease until", moment(record.lease_expires_at)),
            *_way(record.stages),
        ]
    )
    _show_attempts(record)


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


def _way(stages: "Stages") -> Iterator[tuple[str, str]]:
    """Each stage with its moment, and how long it took since the one before."""
    before = 0
    for name, at in stages.model_dump().items():
        took = f"  +{at - before:,} ms" if at and before else ""
        yield name.removesuffix("_at"), f"{moment(at)}{took}"
        before = at or before


def _show_attempts(record: "TaskRecord") -> None:
    history = record.error.history if record.error else record.history
    for number, attempt in enumerate(history, 1):
        print_line()
        print_line(f"attempt {number}, {moment(attempt.ended_at)}, on {attempt.agent or '-'}")
        _show_failure(attempt)
    if record.error:
        print_line()
        print_line(f"failed for good after {record.error.attempts} attempts, on {record.error.agent or '-'}")
        _show_failure(record.error)


def _show_failure(failure: "Attempt | TaskError") -> None:
    print_indented(f"{failure.kind.value}: {failure.type}: {failure.message}")
    for entry in failure.trace:
        print_indented(entry)
