"""The grid's clock: milliseconds since the Unix epoch."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives milliseconds since the Unix epoch."""


def system_clock() -> int:
    """The host's time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
