"""Writing finished tasks as JSON Lines, CSV or Parquet, a batch at a time; a file appears whole or not at all."""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from htcgrid.cli.exits import BadInput
from htcgrid.cli.lines import error_of, line_of

if TYPE_CHECKING:
    from htcgrid.results import FinishedTask

_BATCH = 10_000
"""Rows that are held before they are written as one row group of Parquet."""


COLUMNS = ("index", "result", "error_kind", "error_type", "error_message")
"""Of CSV and Parquet. A result is JSON, and there is none beside an error."""


def written(tasks: "Iterable[FinishedTask]", written_as: str, output: Path | None) -> int:
    """Write tasks to a file or to standard output. Gives how many have no result.

    Raises:
        BadInput: the file cannot be written, or the format needs a package that is not there.
    """
    tally = _Tally(tasks)
    _WRITERS[written_as](tally, output)
    return tally.lacking


class _Tally:
    """Passes tasks on and counts those without a result."""

    def __init__(self, tasks: "Iterable[FinishedTask]") -> None:
        self._tasks = tasks
        self.lacking = 0

    def __iter__(self) -> "Iterator[FinishedTask]":
        for task in self._tasks:
            self.lacking += task.error is not None
            yield task


def _write_lines(tasks: "Iterable[FinishedTask]", output: Path | None) -> None:
    with _text(output) as file:
        for task in tasks:
            file.write(line_of(task) + "\n")


def _write_csv(tasks: "Iterable[FinishedTask]", output: Path | None) -> None:
    with _text(output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_row, tasks))


def _write_parquet(tasks: "Iterable[FinishedTask]", output: Path | None) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise BadInput("Parquet needs the package pyarrow: pip install 'htcgrid[parquet]'") from None
    assert output is not None  # noqa: S101 - the command sees to that
    schema = pyarrow.schema(
        [("index", pyarrow.int64()), *((name, pyarrow.string()) for name in COLUMNS if name != "index")]
    )
    with _draft(output) as draft, parquet.ParquetWriter(draft, schema) as writer:
        rows = map(_row, tasks)
        while batch := list(islice(rows, _BATCH)):
            columns = [
                pyarrow.array(column, field.type)
                for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))


_WRITERS: "dict[str, Callable[[Iterable[FinishedTask], Path | None], None]]" = {
    "jsonl": _write_lines,
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def _row(task: "FinishedTask") -> tuple[int | str | None, ...]:
    if task.error is None:
        return (task.index, json.dumps(task.result, ensure_ascii=False), None, None, None)
    error = error_of(task.error)
    return (task.index, None, error["kind"], error.get("type"), error["message"])


@contextmanager
def _text(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    with _draft(output) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def _draft(output: Path) -> Iterator[Path]:
    """A file beside the output, which takes its place when all went well."""
    try:
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}-")
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}") from error
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
