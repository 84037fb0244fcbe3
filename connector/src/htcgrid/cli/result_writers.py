"""Writing finished tasks as JSON Lines, a JSON array, CSV or Parquet, a batch at a time."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from htcgrid.cli.exits import BadInput
from htcgrid.cli.output_file import output_file
from htcgrid.cli.task_json import TOO_DEEP, error_of, line_of
from htcgrid.errors import TaskFailed
from htcgrid.escaping import json_text, visible

if TYPE_CHECKING:
    from htcgrid.results import FinishedTask

_BATCH = 10_000
"""Rows that are held before they are written as one row group of Parquet."""

COLUMNS = ("index", "result", "error_kind", "error_type", "error_message")
"""Of CSV and Parquet. A result is JSON, and there is none beside an error."""

Lacking = Counter[str]
"""How many tasks have no result: `failed`, or the kind of their error; see `error_of`."""


def write_tasks(
    tasks: "Iterable[FinishedTask]", written_as: str, output: Path | None, *, raw_cells: bool = False
) -> Lacking:
    """Write tasks to a file or to standard output.

    Args:
        tasks: What to write, in this order.
        written_as: `jsonl`, `json`, `csv` or `parquet`.
        output: Where to; see `output_file`.
        raw_cells: Leave cells of CSV alone that a spreadsheet takes for formulas.

    Raises:
        BadInput: the file cannot be opened, or the format needs a package that is not there.
        OutputFailed: the file cannot be written to its end.
    """
    lacking: Lacking = Counter()
    counted = _counted(tasks, lacking)
    if written_as == "parquet":
        _write_parquet(counted, output)
        return lacking
    with output_file(output) as file:
        if written_as == "csv":
            _write(file, _csv(counted, raw_cells=raw_cells, keep="" if file.isatty() else "\t\r\n"))
        else:
            _write(file, _array(counted) if written_as == "json" else (line_of(task) + "\n" for task in counted))
    return lacking


def _counted(tasks: "Iterable[FinishedTask]", lacking: Lacking) -> "Iterator[FinishedTask]":
    for task in tasks:
        if task.error is not None:
            lacking["failed" if isinstance(task.error, TaskFailed) else error_of(task.error)["kind"]] += 1
        yield task


def _write(file: BinaryIO, texts: Iterable[str]) -> None:
    for text in texts:
        file.write(text.encode())


def _array(tasks: "Iterable[FinishedTask]") -> Iterator[str]:
    yield "["
    for number, task in enumerate(tasks):
        yield f"{',' if number else ''}\n{line_of(task)}"
    yield "\n]\n"


def _csv(tasks: "Iterable[FinishedTask]", *, raw_cells: bool, keep: str) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for task in tasks:
        index, result, kind, *texts = _row(task)
        cells = [str(index), result or "", kind or "", *(_cell(text or "", raw=raw_cells, keep=keep) for text in texts)]
        yield ",".join(map(_quoted, cells)) + "\n"


def _cell(text: str, *, raw: bool, keep: str) -> str:
    """A user's text as a cell: with an apostrophe before it where a spreadsheet would run it as a formula."""
    harmless = raw or not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return visible(text if harmless else f"'{text}", keep=keep)


def _quoted(cell: str) -> str:
    """As RFC 4180 has it. The module csv leaves carriage returns without quotes where lines end in a newline alone."""
    return '"' + cell.replace('"', '""') + '"' if re.search(r'[",\r\n]', cell) else cell


def _write_parquet(tasks: "Iterable[FinishedTask]", output: Path | None) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise BadInput("Parquet needs the package pyarrow: pip install 'htcgrid[parquet]'") from None
    schema = pyarrow.schema(
        [("index", pyarrow.int64()), *((name, pyarrow.string()) for name in COLUMNS if name != "index")]
    )
    with output_file(output) as file, parquet.ParquetWriter(pyarrow.PythonFile(file, mode="w"), schema) as writer:
        rows = map(_encodable, map(_row, tasks))
        while batch := list(islice(rows, _BATCH)):
            columns = [
                pyarrow.array(column, field.type)
                for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))


Row = tuple[int, str | None, str | None, str | None, str | None]


def _encodable(row: Row) -> tuple[int | str | None, ...]:
    """Without halves of surrogate pairs, which are in no file of UTF-8."""
    return tuple(cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell for cell in row)


def _row(task: "FinishedTask") -> Row:
    if task.error is None:
        try:
            return (task.index, json_text(task.result), None, None, None)
        except RecursionError:
            error = TOO_DEEP
    else:
        error = error_of(task.error)
    return (task.index, None, error["kind"], error.get("type"), error["message"])
