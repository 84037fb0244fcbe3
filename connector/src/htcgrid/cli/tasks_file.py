"""Tasks from a file: JSON Lines, CSV or a JSON array, read bit by bit, so that any length takes little memory.

Each task is checked, as it is read, by the rules by which it is sent, so that reading a file to its end once is a check
of the whole.
"""

import codecs
import csv
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from io import BufferedIOBase, UnsupportedOperation
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NoReturn, cast

from htcgrid.cli.exits import BadInput
from htcgrid.cli.replayed import Replayed
from htcgrid.errors import InvalidTask

if TYPE_CHECKING:
    from htcgrid.options import JSON

STANDARD_INPUT = "-"

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line, or element of an array, that is read into memory: ten times the largest task, since a text may be
written with escapes and spaces that the task does not have."""

_NOT_TEXT = {".xlsx", ".xls", ".ods", ".parquet", ".feather", ".pickle", ".pkl", ".gz", ".bz2", ".xz", ".zst", ".zip"}
"""Files that somebody may take for tasks, and that are in none of the formats."""


class Format(StrEnum):
    """How tasks are written."""

    JSONL = "jsonl"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True)
class TaskStream:
    """The tasks of a file. Can be read more than once only if the file can."""

    place: str
    """A path, or `-` for standard input."""
    format: Format | None
    """None to have it found by how the text begins; see `_by_content`."""

    def __iter__(self) -> "Iterator[JSON]":
        """Raises `BadInput`, which names the line, for a file that cannot be read or a line that holds no task."""
        return (task for task, _ in self.with_sizes())

    def with_sizes(self) -> "Iterator[tuple[JSON, int]]":
        """The tasks with the bytes that they have as JSON. Raises as `__iter__` does."""
        from htcgrid._submit.json_line import json_line

        for index, (line, task) in enumerate(self._read()):
            try:
                size = len(json_line(index, task))
            except InvalidTask as error:
                raise BadInput(f"line {line} of {_named(self.place)}: {error}") from error
            yield task, size

    def _read(self) -> "Iterator[tuple[int, JSON]]":
        with _opened(self.place) as file:
            yield from _READERS[self.format](_named(self.place), file)


@dataclass(frozen=True)
class TaskFile(TaskStream):
    """The tasks of a file that was read to its end once: all are good, and their number is known."""

    count: int = field(kw_only=True)
    digest: str = field(kw_only=True)
    """SHA-256 of the file's bytes."""

    def __iter__(self) -> "Iterator[JSON]":
        """The tasks, which were checked already."""
        return (task for _, task in self._read())

    def __len__(self) -> int:
        return self.count


def format_of(place: str, given: Format | None) -> Format | None:
    """The format as given, else by the file's name; None where the name does not tell.

    Raises:
        BadInput: the name is empty, or that of a file that is in none of the formats.
    """
    if not place:
        raise BadInput("the name of the file of tasks is empty: give a file, or - for standard input")
    suffix = PurePath(place).suffix.lower()
    if given is None and suffix in _NOT_TEXT:
        raise BadInput(f"{place} is not read: tasks are given as JSON Lines, as a JSON array (.json) or as CSV (.csv)")
    return given or {".csv": Format.CSV, ".json": Format.JSON}.get(suffix)


def open_tasks(place: str, format: Format | None) -> TaskStream:  # noqa: A002 - the noun of the option
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


def json_value(text: str) -> Any:
    """The value of a JSON text, without the words that Python takes for numbers.

    Raises:
        ValueError: it is not JSON; says why and where.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error


@contextmanager
def _opened(place: str) -> Iterator[BufferedIOBase]:
    if place == STANDARD_INPUT:
        yield _standard_input()
        return
    with ExitStack() as opened:
        try:
            file = opened.enter_context(Path(place).open("rb"))
        except OSError as error:
            raise BadInput(f"{place} cannot be read: {error.strerror}") from error
        yield file


def _standard_input() -> BufferedIOBase:
    """A reader of its own, since Python cannot end while a thread waits in that of `sys.stdin`."""
    if sys.stdin is None:
        raise BadInput("standard input cannot be read: it is closed")
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except UnsupportedOperation:  # not a file of the system
        return cast("BufferedIOBase", sys.stdin.buffer)


def _lines(name: str, file: BufferedIOBase) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1."""
    number = 0
    try:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                _refuse(name, number, f"is longer than {MAX_LINE_BYTES:,} bytes, the most that is read", None)
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        _refuse(name, number, f"is not UTF-8: {error.reason}", error)
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}") from error


def _json_lines(name: str, file: BufferedIOBase) -> "Iterator[tuple[int, JSON]]":
    for number, line in _lines(name, file):
        if not line.strip():
            continue
        try:
            yield number, json_value(line.rstrip("\r\n"))
        except ValueError as error:
            _refuse(name, number, f"is not JSON: {error}", error)


def _json_array(name: str, file: BufferedIOBase) -> "Iterator[tuple[int, JSON]]":
    from htcgrid.cli.json_array import NotAnArray, elements

    try:
        yield from elements(file, MAX_LINE_BYTES, parse_constant=_no_number)
    except NotAnArray as error:
        unsure = error.line == 1 or isinstance(file, Replayed)
        hint = " (for one task a line, give --format jsonl)" if unsure else ""
        raise BadInput(f"line {error.line} of {name}: it is no JSON array of tasks: {error}{hint}") from error
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}") from error


def _csv_rows(name: str, file: BufferedIOBase) -> "Iterator[tuple[int, JSON]]":
    """Each row as an object, its keys from the first row."""
    from htcgrid_events.views import counted

    last = 0

    def texts() -> Iterator[str]:
        nonlocal last
        for last, line in _lines(name, file):  # noqa: B007 - read below
            yield line

    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(texts(), strict=True)
    try:
        keys = next(reader, [])
        if len(set(keys)) != len(keys) or "" in keys:
            _refuse(name, 1, "is not a CSV header: it needs names, all different", None)
        for row in reader:
            if not row:
                continue
            if len(row) != len(keys):
                _refuse(name, last, f"has {counted(len(row), 'cell')}, and the header {len(keys)}", None)
            yield last, dict(zip(keys, map(_cell, row), strict=True))
    except csv.Error as error:
        _refuse(name, last, f"is not CSV: {error}", error)


def _by_content(name: str, file: BufferedIOBase) -> "Iterator[tuple[int, JSON]]":
    """JSON Lines, or an array that is written over several lines. An array on the only line may be one task or many,
    so it is refused: one whose elements are meant must not become one task unnoticed."""
    head = _next_line(file)
    if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        return _json_lines(name, Replayed(head, file))
    try:
        json.loads(head)
    except (ValueError, RecursionError):
        return _json_array(name, Replayed(head, file))
    more = _next_line(file)
    if not more.strip():
        what = "is one JSON array, and the only line: give --format json to have its elements as tasks"
        _refuse(name, head.count(b"\n") or 1, f"{what}, or --format jsonl for one task that is a list", None)
    return _json_lines(name, Replayed(head + more, file))


def _next_line(file: BufferedIOBase) -> bytes:
    """The next line that is not blank, with the blank ones before it; no longer than what is read at most."""
    read = b""
    while len(read) <= MAX_LINE_BYTES and (line := file.readline(MAX_LINE_BYTES + 1)):
        read += line
        if line.removeprefix(codecs.BOM_UTF8).strip():
            break
    return read


_READERS: "dict[Format | None, Callable[[str, BufferedIOBase], Iterator[tuple[int, JSON]]]]" = {
    Format.JSONL: _json_lines,
    Format.CSV: _csv_rows,
    Format.JSON: _json_array,
    None: _by_content,
}
"""They give each task with the number of the line on which it ends, from 1."""

_WORDS = {"true": True, "false": False, "null": None}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(_WHOLE.pattern + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DIGITS = 400
"""Of the longest number that a cell may hold; more of them are a text."""


def _cell(text: str) -> Any:
    """true, false, null, or a number as JSON writes it if no digit of it gets lost; else the text as it is."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _DIGITS or not _NUMBER.fullmatch(text):
        return text
    if _WHOLE.fullmatch(text):
        return int(text) if text != "-0" else text
    value = float(text)
    try:
        return value if Decimal(text) == Decimal(repr(value)) else text
    except InvalidOperation:  # an exponent that not even decimals have
        return text


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _refuse(name: str, line: int, what: str, error: Exception | None) -> NoReturn:
    raise BadInput(f"line {line} of {name} {what}") from error


def _named(place: str) -> str:
    return "standard input" if place == STANDARD_INPUT else place
