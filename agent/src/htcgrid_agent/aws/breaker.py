"""A circuit breaker: stops sending requests to a service that keeps failing, and tries again after a pause."""

import logging
import random
import threading
import time
from collections.abc import Callable
from enum import IntEnum

from htcgrid_chunks.backoff import Backoff

_LOG = logging.getLogger(__name__)


class BreakerState(IntEnum):
    """The states, numbered as the metric shows them."""

    CLOSED = 0
    """Requests are sent."""
    HALF_OPEN = 1
    """The pause is over: one request is sent to find out whether the service is back."""
    OPEN = 2
    """No request is sent until the pause is over."""


class CircuitBreaker:
    """Opens after `threshold` failures in a row, for a pause that grows with each failed trial. Thread-safe."""

    def __init__(
        self,
        name: str,
        threshold: int,
        pause: Backoff,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._threshold = threshold
        self._pause = pause
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._failures = 0
        self._openings = 0
        self._until = 0.0
        self._trial_until = 0.0

    @property
    def state(self) -> BreakerState:
        """The state now."""
        if not self._openings:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._until else BreakerState.HALF_OPEN

    @property
    def seconds_left(self) -> float:
        """How long it stays open; 0 if it is not."""
        return max(0.0, self._until - self._clock()) if self._openings else 0.0

    def allows(self) -> bool:
        """Whether a request may be sent now. After a pause only one caller may, until it reports how that went."""
        with self._lock:
            now = self._clock()
            if not self._openings:
                return True
            if now < self._until or now < self._trial_until:
                return False
            # The caller may never report: others may try after another pause.
            self._trial_until = now + self._pause.ceiling(self._openings).total_seconds()
            return True

    def succeeded(self) -> None:
        """Report a request that was answered."""
        # The common case takes no lock.
        if self._failures or self._openings:
            with self._lock:
                if self._openings:
                    _LOG.info("%s has recovered", self._name)
                self._failures = self._openings = 0

    def failed(self) -> None:
        """Report a request that failed."""
        with self._lock:
            self._failures += 1
            if self._failures < self._threshold and not self._openings:
                return
            if self._openings and self._clock() < self._until:
                return
            self._openings += 1
            # At least half of the longest wait: with full jitter the pause could be almost nothing.
            ceiling = self._pause.ceiling(self._openings).total_seconds()
            self._until = self._clock() + ceiling * (0.5 + 0.5 * self._random())
            self._trial_until = 0.0
            _LOG.warning(
                "%s kept failing: its circuit breaker is open for %.1f s", self._name, self._until - self._clock()
            )
