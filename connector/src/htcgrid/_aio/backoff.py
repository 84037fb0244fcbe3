"""How long to wait before trying again."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """Exponential backoff with full jitter: a random part of a wait that doubles up to a longest one.

    The random part spreads clients which failed together, so that they do not return together.
    """

    first: timedelta
    """Longest wait after the first failure."""
    longest: timedelta
    """Longest wait after any failure."""
    random: Callable[[], float] = random.random
    """Gives the part, from 0 to 1."""

    def seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row (1..)."""
        doublings = min(failures - 1, 32)
        return self.random() * min(self.longest.total_seconds(), self.first.total_seconds() * 2.0**doublings)
