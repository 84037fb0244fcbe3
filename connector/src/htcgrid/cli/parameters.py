"""Parameters that several commands take, and the connection that they open."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import BadInput

if TYPE_CHECKING:
    from htcgrid.grid import Grid

REQUEST_TIMEOUT = timedelta(seconds=10)
"""Shorter than a program's: somebody sits before the screen, and can repeat the command."""

SessionArgument = Annotated[
    str, typer.Argument(metavar="SESSION", help="The session's id, or its first digits (at least 4).")
]
IndexArgument = Annotated[int, typer.Argument(metavar="INDEX", min=0, help="The task's number in its session, from 0.")]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME|FILE",
        help="The grid's profile. Default: $HTCGRID_PROFILE, else what `htcgrid config use` chose.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one value a line, for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@contextmanager
def connected(profile: str | None) -> "Iterator[Grid]":
    """A connection to the grid. Raises as `Grid.connect` does."""
    from htcgrid.grid import Grid

    with Grid.connect(profile, request_timeout=REQUEST_TIMEOUT) as grid:
        yield grid


def seconds(text: str) -> float:
    """A length of time such as `90`, `90s`, `15m`, `2h` or `1d`, in seconds.

    Raises:
        BadInput: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None:
        raise BadInput(f"{text!r} is not a length of time: give seconds, or a number with s, m, h or d, such as 15m")
    return float(match[1]) * _UNITS[match[2] or "s"]
