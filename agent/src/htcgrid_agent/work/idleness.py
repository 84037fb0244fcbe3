"""Tells when an agent that could work has had nothing to do for long."""

from datetime import timedelta


class Idleness:
    """How long an agent has been idle, as seen by who looks at it now and then."""

    def __init__(self, limit: timedelta) -> None:
        self._limit_ms = limit.total_seconds() * 1000
        self._since_ms: float | None = None
        self._received = 0

    def is_over(self, received: int, in_hand: int, room: int, now_ms: float) -> bool:
        """Whether it has been idle for the limit.

        An agent that has no room without having anything in hand cannot work: it is in quarantine, or has no worker. It
        is not idle, since one in its place would be no better off.

        Args:
            received: chunks received since the agent began.
            in_hand: chunks that are worked on or being written.
            room: chunks that could be received now.
            now_ms: any clock that only goes forward, in milliseconds.
        """
        if in_hand or room <= 0 or received != self._received or self._since_ms is None:
            self._since_ms, self._received = now_ms, received
            return False
        return now_ms - self._since_ms >= self._limit_ms
