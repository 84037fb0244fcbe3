"""Ctrl-C and SIGTERM while a session is submitted: the session is kept, so that the submission can go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from htcgrid.errors import GridError


class Interrupted(GridError):
    """Raised when a signal to end has come. Retryable, as the grid keeps what was sent of a submission that is."""

    retryable = True

    def __init__(self, number: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first signal to end raise `Interrupted`, and further ones have their usual effect."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        restore()
        raise Interrupted(number)

    for number in former:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        restore()
