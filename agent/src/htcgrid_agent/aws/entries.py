"""Requests with many entries: what became of each, and how one bad entry is kept from blocking the others."""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TypeVar

from htcgrid_agent.errors import AWS_ERRORS, refuses_content

T = TypeVar("T")
R = TypeVar("R")


class EntryResult(Enum):
    """What became of one entry."""

    ACCEPTED = auto()
    RETRY = auto()
    """Not accepted now; it may be later."""
    REFUSED = auto()
    """Will never be accepted, because of what it contains."""


def send_isolated(send: Callable[[Sequence[T]], Sequence[R]], entries: Sequence[T], refused: R) -> list[R]:
    """Send entries in one request, or one by one if that request is refused for what one of them contains.

    Gives the answer to each entry: what `send` gives, or `refused` for an entry that is refused when it is sent alone.

    Raises:
        AWS_ERRORS: a request failed for another reason. Some entries may have been accepted.
    """
    try:
        return list(send(entries))
    except AWS_ERRORS as error:
        if not refuses_content(error):
            raise
    if len(entries) == 1:
        return [refused]
    return [answer for entry in entries for answer in send_isolated(send, [entry], refused)]
