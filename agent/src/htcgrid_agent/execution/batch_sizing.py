"""How many tasks of a session a worker is given at a time, by how long they have taken so far."""

from collections import OrderedDict
from datetime import timedelta
from typing import Final

_BATCH: Final = timedelta(milliseconds=15)
"""So much work is worth a message: its cost is shared by all of it, and nobody waits for it for long."""
_MOST: Final = 500
_SMOOTHING = 0.1
_REMEMBERED = 256


class BatchSizing:
    """Knows about how long the tasks of each session take."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, float] = OrderedDict()

    def ran(self, session_id: str, seconds: float) -> None:
        """A task of the session ran for so long, and may run still."""
        known = self._seconds.get(session_id)
        self._seconds[session_id] = seconds if known is None else known + _SMOOTHING * (seconds - known)
        if len(self._seconds) > _REMEMBERED:
            self._seconds.popitem(last=False)

    def share(self, session_id: str) -> int:
        """How many of its tasks a worker may be given at a time: one while nothing is known of them."""
        known = self._seconds.get(session_id)
        return 1 if known is None else max(1, min(_MOST, int(_BATCH.total_seconds() / max(known, 1e-6))))
