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
    from htcgrid.cli.result_writers import Lacking
    from htcgrid.results import FinishedTask
    from htcgrid.session import Session


class ResultFormat(StrEnum):
    """How results are written."""

    JSONL = "jsonl"
    JSON = "json"
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
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The file to write; - for standard output, the default."),
    ] = None,
    order: Annotated[Order, typer.Option(help="In the order of the tasks, or as they finished.")] = Order.SUBMITTED,
    now: Annotated[
        bool, typer.Option("--now", help="Write what has finished by now, and do not wait for the rest.")
    ] = False,
    raw_cells: Annotated[
        bool,
        typer.Option("--raw-cells", help="Leave texts in CSV as they are, even those like formulas."),
    ] = False,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a session's results to a file or to standard output.

    Waits for those that are not there yet. A line of JSON Lines, or an element of a JSON array, is
    {"index": 0, "result": …}, or {"index": 0, "error": {…}} for a task that failed or was cancelled. CSV and Parquet
    have the columns index, result (as JSON), error_kind, error_type and error_message. Parquet needs the package
    pyarrow: pip install 'htcgrid[parquet]'.
    """
    from htcgrid.cli.result_writers import write_tasks

    chosen = ResultFormat.JSONL if as_json else written_as or _format_of(output)
    if chosen is ResultFormat.PARQUET and (output is None or str(output) == "-"):
        raise BadInput("Parquet is no text: give a file with -o")
    with connected(profile) as grid:
        found = grid.attach(session)
        tasks = _chosen(found, order, now=now)
        lacking = write_tasks(tasks, chosen.value, output, raw_cells=raw_cells)
    if lacking:
        say(f"htcgrid: {_why(lacking, found.id)}")
        raise typer.Exit(FAILED)


def _why(lacking: "Lacking", session_id: str) -> str:
    """How many tasks have no result, and why not."""
    from htcgrid_events.views import counted

    told = [f"{lacking[kind]:,} {what.format(session_id)}" for kind, what in _LACKING.items() if lacking[kind]]
    total = lacking.total()
    return f"{counted(total, 'task')} {'has' if total == 1 else 'have'} no result: {', '.join(told)}"


_LACKING = {
    "failed": "failed (why: htcgrid errors {})",
    "cancelled": "cancelled",
    "timed_out": "not done at the session's deadline",
    "unavailable": "no longer kept by the grid",
}


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
    """By the name of the file; JSON Lines where it has no ending, as `/dev/stdout`.

    Raises:
        BadInput: the name ends as that of another format.
    """
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    if suffix in ("", "ndjson"):
        return ResultFormat.JSONL
    if suffix not in set(ResultFormat):
        formats = ", ".join(f".{each.value}" for each in ResultFormat)
        raise BadInput(f"{output} is no format that can be written: give a name that ends in {formats}, or --format")
    return ResultFormat(suffix)
