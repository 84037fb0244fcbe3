"""`htcgrid task`: one task, to be looked at or run again on this machine."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from htcgrid.cli import task_replay
from htcgrid.cli.output import moment, print_fields, print_indented, print_json, print_line
from htcgrid.cli.parameters import IndexArgument, JsonOption, ProfileOption, SessionArgument, connected

if TYPE_CHECKING:
    from htcgrid_events import Attempt, Stages, TaskError, TaskRecord


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    task = typer.Typer(help="Show one task, or run it again on this machine.", no_args_is_help=True)
    task.command("show")(show_task)
    task_replay.add_to(task)
    app.add_typer(task, name="task")


def show_task(
    session: SessionArgument, index: IndexArgument, profile: ProfileOption = None, *, as_json: JsonOption = False
) -> None:
    """Show one task: its stages, its attempts and its error."""
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
            ("function", ", ".join(f"version {digest}" for digest in record.function_digests) or "-"),
            ("lease until", moment(record.lease_expires_at)),
            *_way(record.stages),
        ]
    )
    _show_attempts(record)


def _way(stages: "Stages") -> Iterator[tuple[str, str]]:
    """Each stage with its moment, and how long it took since the one before."""
    before = 0
    for name, at in stages.model_dump().items():
        took = f"  +{at - before:,} ms" if at and before else ""
        yield name.removesuffix("_at"), f"{moment(at)}{took}"
        before = at or before


def _show_attempts(record: "TaskRecord") -> None:
    from htcgrid_events.views import counted

    history = record.error.history if record.error else record.history
    for number, attempt in enumerate(history, 1):
        print_line()
        print_line(f"attempt {number}, {moment(attempt.ended_at)}, {_runner(attempt)}")
        _show_failure(attempt)
    if record.error:
        print_line()
        print_line(f"failed for good after {counted(record.error.attempts, 'attempt')}, {_runner(record.error)}")
        _show_failure(record.error)


def _runner(failure: "Attempt | TaskError") -> str:
    version = f", version {failure.function_digest} of the function" if failure.function_digest else ""
    return f"on {failure.agent or '-'}{version}"


def _show_failure(failure: "Attempt | TaskError") -> None:
    print_indented(f"{failure.kind.value}: {failure.type}: {failure.message}")
    for entry in failure.trace:
        print_indented(entry)
