"""Parameters that several commands take, and the connection that they open."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import BadInput
from htcgrid.errors import SessionNotFound

if TYPE_CHECKING:
    from htcgrid.grid import Grid
    from htcgrid.session import Session

REQUEST_TIMEOUT = timedelta(seconds=10)
"""Shorter than a program's: somebody sits before the screen, and can repeat the command."""

SessionArgument = Annotated[
    str, typer.Argument(metavar="SESSION", help="The session's id, or its first digits if no other begins with them.")
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

_BEGINNING = re.compile(r"[0-9a-f]{1,31}")
"""Of a session's id, as progress bars and error messages show it."""

_FEWEST_DIGITS = 4

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@contextmanager
def connected(profile: str | None) -> "Iterator[Grid]":
    """A connection to the grid. Raises as `Grid.connect` does."""
    from htcgrid.grid import Grid

    with Grid.connect(profile, request_timeout=REQUEST_TIMEOUT) as grid:
        yield grid


def attached(grid: "Grid", session: str) -> "Session":
    """A session by its id or the beginning of it. Raises as `whole_id` and `Grid.attach` do."""
    return grid.attach(whole_id(grid, session))


def whole_id(grid: "Grid", given: str) -> str:
    """The id of a session of which the id or its beginning is given.

    Raises:
        SessionNotFound: the user has no session whose id begins like this.
        BadInput: it has fewer than 4 digits, or several sessions begin like this; names two of them.
    """
    if not _BEGINNING.fullmatch(given):
        return given
    if len(given) < _FEWEST_DIGITS:
        fewest = f"give {_FEWEST_DIGITS} digits or more"
        raise BadInput(f"{given} is too short for the beginning of a session's id: {fewest}")
    ids = (summary.session_id for summary in grid.sessions())
    found = list(islice((session_id for session_id in ids if session_id.startswith(given)), 2))
    if len(found) > 1:
        raise BadInput(f"several sessions begin with {given}, such as {' and '.join(found)}: give more digits")
    if not found:
        raise SessionNotFound(given)
    return found[0]


def seconds(text: str) -> float:
    """A length of time such as `90`, `90s`, `15m`, `2h` or `1d`, in seconds.

    Raises:
        BadInput: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None:
        raise BadInput(f"{text!r} is not a length of time: give seconds, or a number with s, m, h or d, such as 15m")
    return float(match[1]) * _UNITS[match[2] or "s"]
