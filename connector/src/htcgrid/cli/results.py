"""`htcgrid results`: what the tasks of a session returned, for other programs."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import FAILED, BadInput
from htcgrid.cli.output import say
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, connected

if TYPE_CHECKING:
    from htcgrid.results import Completed
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
        tasks = finished(grid.attach(session), now=now)
        lacking = written(in_order(tasks) if order is Order.SUBMITTED else tasks, chosen.value, output)
    if lacking:
        say(f"htcgrid: {lacking:,} tasks have no result; why: htcgrid errors {session}")
        raise typer.Exit(FAILED)


def in_order(tasks: "Iterable[Completed]") -> "Iterator[Completed]":
    """Tasks in the order of their numbers, each as soon as all before it are there."""
    ahead: list[tuple[int, Completed]] = []
    following = 0
    for task in tasks:
        heappush(ahead, (task.index, task))
        while ahead and ahead[0][0] == following:
            yield heappop(ahead)[1]
            following += 1
    while ahead:
        yield heappop(ahead)[1]


def finished(session: "Session", *, now: bool) -> "Iterable[Completed]":
    """The tasks of a session as they finish; with `now` only those that have finished by now."""
    return islice(session.as_completed(), session.status().account.finished) if now else session.as_completed()


def _format_of(output: Path | None) -> ResultFormat:
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    return ResultFormat(suffix) if suffix in set(ResultFormat) else ResultFormat.JSONL
