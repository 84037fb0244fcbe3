"""How commands print: values for programs as JSON, tables for people, colours only on a terminal.

Everything that a command prints passes through this module, so that no text of others reaches a terminal as it is, and
an output that cannot be written ends in a sentence.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from htcgrid.cli.exits import OutputFailed
from htcgrid.errors import GridError
from htcgrid.escaping import json_text, lines, visible

if TYPE_CHECKING:
    from pydantic import BaseModel

_COLOURS = {
    "COMPLETED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "CANCELLED": "yellow",
    "RUNNING": "cyan",
    "RETRY": "magenta",
}


def use_utf8() -> None:
    """Have both outputs take any text, whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text: str) -> None:
    """Tell a person something that is no part of the output, on one line."""
    try:
        typer.echo(visible(text), err=True)
    except (OSError, ValueError):  # nobody can be told
        return


def print_line(text: str = "") -> None:
    """Print a line. Raises `OutputFailed`, as all of these do."""
    _print(visible(text))


def print_json(value: "BaseModel | dict[str, Any]") -> None:
    """Print a value as one line of JSON."""
    _print(json_text(value if isinstance(value, dict) else value.model_dump(mode="json")))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in columns as wide as they need, those of `right` aligned to the right. States are coloured."""
    table = [heads, *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    for number, line in enumerate(table):
        cells = [
            (cell.rjust(width) if column in right else cell.ljust(width), "bold" if number == 0 else cell)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        _print("  ".join(_coloured(text, style) for text, style in cells).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a pair a line."""
    pairs = list(fields)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print_line(f"{name:<{width}}  {value}")


def print_indented(text: str) -> None:
    """Print the lines of a text below what they belong to."""
    for line in lines(text):
        _print(f"    {line}")


def moment(timestamp_ms: int | None) -> str:
    """A moment as people read it, in local time; a dash for none."""
    if not timestamp_ms:
        return "-"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def one_line(text: str, most: int = 100) -> str:
    """The first line of a text, shortened."""
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= most else first[: most - 1] + "…"


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output, to write UTF-8 to. Raises `OutputFailed` when the block cannot write."""
    with _writing():
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


def on_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


@contextmanager
def upload_progress() -> Iterator[Callable[[int], object]]:
    """Shows on standard error, where a person reads it, how many bytes were uploaded: call what it gives with more."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    column = TextColumn("uploaded {task.completed:,.0f} bytes")
    with Progress(column, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda size: progress.advance(task, size)


def finish() -> None:
    """Write what is still held back. Raises `OutputFailed`, after which nothing is held back any more."""
    if sys.stdout is None:
        return
    try:
        with _writing():
            sys.stdout.flush()
    except OutputFailed:
        drop_output()
        raise


def drop_output() -> None:
    """Forget what could not be written, which Python would try again, and complain about, at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return


def _print(text: str) -> None:
    with _writing():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    if sys.stdout is None:
        raise OutputFailed("standard output is closed")
    try:
        yield
    except GridError:  # of which some are kinds of OSError
        raise
    except BrokenPipeError as error:
        raise OutputFailed("standard output was closed before everything was written") from error
    except OSError as error:
        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from error


def _coloured(text: str, style: str) -> str:
    """See https://no-color.org for NO_COLOR."""
    if not on_terminal() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, bold=True if style == "bold" else None, fg=_COLOURS.get(style))
