"""The wait before a retry: exponential backoff with jitter."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog): the wait before
    retry n (1, 2, …) is uniform between 0 and min(cap, base * factor ** (n - 1))."""

    base: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    cap: timedelta = timedelta(minutes=5)

    def ceiling(self, retry: int) -> timedelta:
        """The longest wait before this retry, counted from 1."""
        # The exponent is bounded so that a long history cannot overflow a float, and a timedelta holds far less.
        longest = self.base.total_seconds() * self.factor ** min(retry - 1, 64)
        return min(self.cap, timedelta(seconds=min(longest, self.cap.total_seconds())))

    def wait(self, retry: int, random: Callable[[], float]) -> timedelta:
        """The wait before this retry; `random` gives numbers in [0, 1)."""
        return self.ceiling(retry) * random()
