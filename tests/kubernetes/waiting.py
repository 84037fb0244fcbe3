"""Waiting for what a cluster does. Limits are minutes: only a hang reaches them."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

Found = TypeVar("Found")

PATIENCE: Final = 300.0
"""Seconds."""


def until(look: Callable[[], Found], what: str, seconds: float = PATIENCE, every: float = 0.2) -> Found:
    """Call `look` until it returns something true, and return that.

    Raises:
        AssertionError: it did not within so many seconds; `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {found!r}")
        time.sleep(every)
    return found
