"""How many tasks of a session a worker is given at a time, by how long its tasks have taken so far."""

from collections import OrderedDict
from datetime import timedelta
from typing import Final

_BATCH: Final = timedelta(milliseconds=15)
"""How much work one message to a worker should carry: enough to share its cost, too little to wait for."""
_MAX_TASKS: Final = 500
_SMOOTHING = 0.1
_REMEMBERED = 256


class BatchSizing:
    """Smoothed task durations of the sessions that were used last."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, float] = OrderedDict()

    def record(self, session_id: str, seconds: float) -> None:
        """Record that a task of the session ran this many seconds, and may still run."""
        known = self._known(session_id)
        self._seconds[session_id] = seconds if known is None else known + _SMOOTHING * (seconds - known)
        if len(self._seconds) > _REMEMBERED:
            self._seconds.popitem(last=False)

    def batch_size(self, session_id: str) -> int:
        """How many tasks of the session to give to a worker at a time: one while nothing is known of them."""
        known = self._known(session_id)
        return 1 if known is None else max(1, min(_MAX_TASKS, int(_BATCH.total_seconds() / max(known, 1e-6))))

    def _known(self, session_id: str) -> float | None:
        """The smoothed seconds of a session, which is now the one used last."""
        seconds = self._seconds.get(session_id)
        if seconds is not None:
            self._seconds.move_to_end(session_id)
        return seconds
