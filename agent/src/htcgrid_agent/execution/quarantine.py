"""Stops an agent from receiving chunks while its workers crash whatever they run."""

import logging
from datetime import timedelta

from htcgrid_agent.aws.breaker import (
    BreakerState,
    CircuitBreaker,
)
from htcgrid_agent.work.task import (
    Failed,
    TaskEnd,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_events import FailureKind

_LOG = logging.getLogger(__name__)
_PAUSE = Backoff(base=timedelta(minutes=1), cap=timedelta(minutes=30))
_WORKER_FAULTS = frozenset({FailureKind.CRASH, FailureKind.INIT})


class Quarantine:
    """Begins when workers have crashed on tasks of `after` different sessions in a row, with no success in between.

    Crashes of a single session are that session's fault. After a pause a single chunk is received as a trial.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._breaker = CircuitBreaker("running tasks", 1, _PAUSE)
        self._sessions: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether nothing may be received."""
        return self._breaker.state is BreakerState.OPEN

    @property
    def probation(self) -> bool:
        """Whether only one chunk may be received."""
        return self._breaker.state is BreakerState.HALF_OPEN

    def ended(self, session_id: str, end: TaskEnd) -> None:
        """A try of a task ended."""
        if not (isinstance(end, Failed) and end.kind in _WORKER_FAULTS):
            # A time-out says nothing either way, but a handler that returned or raised did run.
            if not (isinstance(end, Failed) and end.kind is FailureKind.TIMEOUT):
                self._sessions.clear()
                self._breaker.succeeded()
            return
        self._sessions.add(session_id)
        if self.probation or len(self._sessions) >= self._after:
            self._breaker.failed()
            _LOG.error("workers crashed on tasks of %d sessions in a row: quarantine", len(self._sessions))
            self._sessions.clear()
