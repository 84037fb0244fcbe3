"""Decides when each queue receives: queues take turns by weight, and get no more than can be started soon."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from htcgrid_agent.work.capacity import BATCHING_WAIT
from htcgrid_events import Priority

WEIGHTS: Final[Mapping[Priority, int]] = {Priority.HIGH: 16, Priority.NORMAL: 4, Priority.LOW: 1}
"""Shares of the received chunks while all queues have some: low priority is slow, but never starves."""

_MAX_GRANT = 10
_RECHECK_SECONDS = 1.0
"""Seconds after which capacity is checked again without a notification: the end of a pause sends none."""
_LAPSE = timedelta(milliseconds=250)


class Gate:
    """Lets the receiving threads pass, one per queue, while there is capacity.

    A thread that passes reserves capacity for the messages that it asks for. The reservation lapses after a moment: a
    long poll that has not returned by then waits at an empty queue, and must not keep the others from receiving. So
    what it receives later may exceed the capacity, by one request per queue.

    While `more_soon` says that chunks in hand are about to end, a thread waits a moment for the capacity that they
    free: a request, and the claim that follows it, cost the same for one message and for ten.
    """

    def __init__(
        self,
        room: Callable[[], int],
        more_soon: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        lapse: timedelta = _LAPSE,
        weights: Mapping[Priority, int] = WEIGHTS,
    ) -> None:
        self._room = room
        self._more_soon = more_soon
        self._clock = clock
        self._lapse = lapse.total_seconds()
        self._weights = weights
        self._changed = threading.Condition()
        self._waiting: set[Priority] = set()
        self._reserved: dict[Priority, tuple[int, float]] = {}
        self._used: dict[Priority, float] = dict.fromkeys(weights, 0.0)
        self._virtual_time = 0.0
        """The weighted use of the queue that passed last, as in weighted fair queueing."""
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many queues wait for their turn."""
        return len(self._waiting)

    def enter(self, queue: Priority) -> int:
        """Wait for the turn of a queue. Gives how many messages it may receive; 0 once the gate is closed."""
        with self._changed:
            # A queue that was empty for long must not save up turns.
            self._used[queue] = max(self._used[queue], self._virtual_time)
            self._waiting.add(queue)
            # Until when to wait for more capacity than a little.
            deadline: float | None = None
            try:
                while not self._closed:
                    now = self._clock()
                    free = self._free(now)
                    if free > 0 and self._is_next(queue):
                        deadline = now + BATCHING_WAIT.total_seconds() if deadline is None else deadline
                        if free < _MAX_GRANT and now < deadline and self._more_soon():
                            self._changed.wait(deadline - now)
                            continue
                        granted = min(free, _MAX_GRANT)
                        self._virtual_time = self._used[queue]
                        self._reserved[queue] = (granted, now + self._lapse)
                        return granted
                    self._changed.wait(min(self._until_lapse(now), _RECHECK_SECONDS))
                return 0
            finally:
                self._waiting.discard(queue)
                self._changed.notify_all()

    def leave(self, queue: Priority, received: int) -> None:
        """Report how many messages the queue has received."""
        with self._changed:
            self._reserved.pop(queue, None)
            self._used[queue] += received / self._weights[queue]
            self._changed.notify_all()

    def notify_capacity(self) -> None:
        """Check again whether there is capacity. Cheap while no queue waits."""
        if self._waiting and self._room() > 0:
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """Let no thread pass any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_next(self, queue: Priority) -> bool:
        return queue is min(self._waiting, key=lambda other: (self._used[other], -self._weights[other]))

    def _free(self, now: float) -> int:
        return self._room() - sum(count for count, lapses in self._reserved.values() if lapses > now)

    def _until_lapse(self, now: float) -> float:
        return min((lapses - now for _, lapses in self._reserved.values() if lapses > now), default=_RECHECK_SECONDS)
