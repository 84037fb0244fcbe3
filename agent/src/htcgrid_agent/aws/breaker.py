"""Stops asking what keeps failing, and tries again now and then."""

import logging
import random
import threading
import time
from collections.abc import Callable
from enum import IntEnum

from htcgrid_chunks.backoff import Backoff

_LOG = logging.getLogger(__name__)


class BreakerState(IntEnum):
    """As shown in metrics."""

    CLOSED = 0
    """All is well."""
    TRYING = 1
    """The pause is over: one request may find out."""
    OPEN = 2
    """Nothing is asked until the pause is over."""


class Breaker:
    """Opens after `threshold` failures in a row, for a pause that grows with each trial that fails. Thread-safe."""

    def __init__(
        self,
        name: str,
        threshold: int,
        pause: Backoff,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._dice = dice
        self._lock = threading.Lock()
        self._failures = 0
        self._openings = 0
        self._until = 0.0
        self._trial_until = 0.0

    @property
    def state(self) -> BreakerState:
        """What it does now."""
        if not self._openings:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._until else BreakerState.TRYING

    @property
    def seconds_left(self) -> float:
        """How long it stays open; 0 if it is not."""
        return max(0.0, self._until - self._clock()) if self._openings else 0.0

    def allows(self) -> bool:
        """Whether to ask now. After a pause only one caller may, until it has said how that went."""
        with self._lock:
            now = self._clock()
            if not self._openings:
                return True
            if now < self._until or now < self._trial_until:
                return False
            # Whoever tries may die over it: others may try after another pause.
            self._trial_until = now + self._pause.ceiling(self._openings).total_seconds()
            return True

    def succeeded(self) -> None:
        """It was asked, and answered."""
        # The common case takes no lock.
        if self._failures or self._openings:
            with self._lock:
                if self._openings:
                    _LOG.info("%s is well again", self._name)
                self._failures = self._openings = 0

    def failed(self) -> None:
        """It was asked, and failed."""
        with self._lock:
            self._failures += 1
            if self._failures < self._threshold and not self._openings:
                return
            if self._openings and self._clock() < self._until:
                return
            self._openings += 1
            # At least half of the longest wait: an open breaker that does not wait is none.
            ceiling = self._pause.ceiling(self._openings).total_seconds()
            self._until = self._clock() + ceiling * (0.5 + 0.5 * self._dice())
            self._trial_until = 0.0
            _LOG.warning("%s kept failing: left alone for %.1f s", self._name, self._until - self._clock())
