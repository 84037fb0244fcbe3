"""How commands print: values for programs as JSON, tables for people, colours only on a terminal."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

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


def say(text: str) -> None:
    """Tell a person something that is no part of the output."""
    typer.echo(text, err=True)


def print_json(value: "BaseModel | dict[str, Any]") -> None:
    """Print a value as one line of JSON."""
    typer.echo(json.dumps(value, separators=(", ", ": ")) if isinstance(value, dict) else value.model_dump_json())


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in columns as wide as they need, those of `right` aligned to the right. States are coloured."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for number, line in enumerate(lines):
        cells = [
            (cell.rjust(width) if column in right else cell.ljust(width), "bold" if number == 0 else cell)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(_coloured(text, style) for text, style in cells).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, a pair a line."""
    pairs = list(fields)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        typer.echo(f"{name:<{width}}  {value}")


def moment(timestamp_ms: int | None) -> str:
    """A moment as people read it, in local time; a dash for none."""
    if not timestamp_ms:
        return "-"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def print_trace(trace: Iterable[str]) -> None:
    """Print the lines of a traceback below what they belong to. An entry may have several."""
    for entry in trace:
        for line in entry.rstrip().splitlines():
            typer.echo(f"    {line}")


def one_line(text: str, most: int = 100) -> str:
    """The first line of a text, shortened."""
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= most else first[: most - 1] + "…"


def _coloured(text: str, style: str) -> str:
    """See https://no-color.org for NO_COLOR."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, bold=True if style == "bold" else None, fg=_COLOURS.get(style))
