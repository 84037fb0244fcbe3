"""`htcgrid results`: what the tasks of a session returned, for other programs."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import FAILED, BadInput
from htcgrid.cli.output import say
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, connected
from htcgrid.errors import GridError

if TYPE_CHECKING:
    from htcgrid.results import FinishedTask
    from htcgrid.session import Session


class ResultFormat(StrEnum):
    """How results are written."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class Order(StrEnum):
    """In which order results are written."""

    SUBMITTED = "submitted"
    COMPLETED = "completed"


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("results")(write_results)


def write_results(
    session: SessionArgument,
    written_as: Annotated[
        ResultFormat | None,
        typer.Option("--format", help="How results are written. Default: by the output's name, else jsonl."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to. Default: standard output.")
    ] = None,
    order: Annotated[Order, typer.Option(help="In the order of the tasks, or as they finished.")] = Order.SUBMITTED,
    now: Annotated[
        bool, typer.Option("--now", help="Only what has finished by now; do not wait for the rest.")
    ] = False,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a session's results, in files or to other programs.

    Waits for those that are not there yet. A line is {"index": 0, "result": …}, or {"index": 0, "error": {…}} for a
    task that failed or was cancelled. CSV and Parquet have the columns index, result (as JSON), error_kind, error_type
    and error_message. Parquet needs the package pyarrow: pip install 'htcgrid[parquet]'.
    """
    from htcgrid.cli.writers import written

    chosen = ResultFormat.JSONL if as_json else written_as or _format_of(output)
    if chosen is ResultFormat.PARQUET and output is None:
        raise BadInput("Parquet is no text: give a file with -o")
    with connected(profile) as grid:
        lacking = written(_chosen(grid.attach(session), order, now=now), chosen.value, output)
    if lacking:
        say(f"htcgrid: {lacking:,} tasks have no result; why: htcgrid errors {session}")
        raise typer.Exit(FAILED)


def finished_by_now(session: "Session") -> "Iterator[FinishedTask]":
    """The tasks that have finished by now, as they finished."""
    return islice(session.as_completed(), session.status().account.finished)


def _chosen(session: "Session", order: Order, *, now: bool) -> "Iterable[FinishedTask]":
    if order is Order.COMPLETED:
        return finished_by_now(session) if now else session.as_completed()
    return sorted(finished_by_now(session), key=lambda task: task.index) if now else _in_order(session)


def _in_order(session: "Session") -> "Iterator[FinishedTask]":
    from htcgrid.results import FinishedTask

    for index, value in enumerate(session.iter_results(return_exceptions=True)):
        yield FinishedTask(index, error=value) if isinstance(value, GridError) else FinishedTask(index, value)


def _format_of(output: Path | None) -> ResultFormat:
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    return ResultFormat(suffix) if suffix in set(ResultFormat) else ResultFormat.JSONL
