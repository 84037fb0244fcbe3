"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return once a condition holds.

    Raises:
        AssertionError: it did not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{holds} did not come true within {seconds} s")
        time.sleep(0.05)
