"""Tasks from a file: JSON Lines or CSV, read line by line, so that a file of any length takes little memory."""

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from htcgrid.cli.exits import BadInput

if TYPE_CHECKING:
    from htcgrid.options import JSON

STANDARD_INPUT = "-"


class Format(StrEnum):
    """How tasks are written."""

    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True)
class TaskStream:
    """The tasks of a file. Can be read more than once only if the file can."""

    place: str
    """A path, or `-` for standard input."""
    format: Format

    def __iter__(self) -> "Iterator[JSON]":
        """Raises `BadInput`, which names the line, for a file that cannot be read or a line that holds no task."""
        with _opened(self.place) as file:
            yield from _READERS[self.format](_named(self.place), _lines(self.place, file))


@dataclass(frozen=True)
class TaskFile(TaskStream):
    """The tasks of a file that was read to its end once: all are good, and their number is known."""

    count: int = field(kw_only=True)
    digest: str = field(kw_only=True)
    """SHA-256 of the file's bytes."""

    def __len__(self) -> int:
        return self.count


def format_of(place: str, given: Format | None) -> Format:
    """The format as given, else by the file's name, else JSON Lines."""
    return given or (Format.CSV if place.lower().endswith(".csv") else Format.JSONL)


def open_tasks(place: str, format: Format) -> TaskStream:  # noqa: A002 - the noun of the option
    """The tasks of a file. A regular file is checked to its end, so that a bad line shows before anything is sent.

    Raises:
        BadInput: the file cannot be read, or holds no task, or a line of it is none.
    """
    stream = TaskStream(place, format)
    path = Path(place)
    if place == STANDARD_INPUT or (path.exists() and not path.is_file() and not path.is_dir()):
        return stream
    count = sum(1 for _ in stream)
    if not count:
        raise BadInput(f"{place} holds no task: give at least one")
    with path.open("rb") as file:
        return TaskFile(place, format, count=count, digest=hashlib.file_digest(file, "sha256").hexdigest())


@contextmanager
def _opened(place: str) -> Iterator[IO[bytes]]:
    if place == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with ExitStack() as opened:
        try:
            file = opened.enter_context(Path(place).open("rb"))
        except OSError as error:
            raise BadInput(f"{place} cannot be read: {error.strerror}") from error
        yield file


def _lines(place: str, file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1."""
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        _refuse(_named(place), number, f"is not UTF-8: {error.reason}", error)
    except OSError as error:
        raise BadInput(f"{_named(place)} cannot be read: {error.strerror}") from error


def _json_lines(name: str, lines: Iterator[tuple[int, str]]) -> "Iterator[JSON]":
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            _refuse(name, number, f"is not JSON: {what}", error)


def _csv_rows(name: str, lines: Iterator[tuple[int, str]]) -> "Iterator[JSON]":
    """Each row as an object, its keys from the first row."""
    last = 0

    def texts() -> Iterator[str]:
        nonlocal last
        for last, line in lines:  # noqa: B007 - read below
            yield line

    reader = csv.reader(texts(), strict=True)
    try:
        keys = next(reader, [])
        if len(set(keys)) != len(keys) or "" in keys:
            _refuse(name, 1, "is not a CSV header: it needs names, all different", None)
        for row in reader:
            if not row:
                continue
            if len(row) != len(keys):
                _refuse(name, last, f"has {len(row)} cells, and the header {len(keys)}", None)
            yield dict(zip(keys, map(_cell, row), strict=True))
    except csv.Error as error:
        _refuse(name, last, f"is not CSV: {error}", error)


_READERS: "dict[Format, Callable[[str, Iterator[tuple[int, str]]], Iterator[JSON]]]" = {
    Format.JSONL: _json_lines,
    Format.CSV: _csv_rows,
}


def _cell(text: str) -> Any:
    """A number, true, false or null as JSON writes them; any other text as it is."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str | list | dict) else value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _refuse(name: str, line: int, what: str, error: Exception | None) -> NoReturn:
    raise BadInput(f"line {line} of {name} {what}") from error


def _named(place: str) -> str:
    return "standard input" if place == STANDARD_INPUT else place
