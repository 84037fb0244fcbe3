"""Whose turn it is to receive: queues take turns by weight, and nobody takes more than can be started soon."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from htcgrid_agent.work.capacity import MOMENT
from htcgrid_events import Priority

WEIGHTS: Final[Mapping[Priority, int]] = {Priority.HIGH: 16, Priority.NORMAL: 4, Priority.LOW: 1}
"""Shares of the chunks taken while all queues have some: low is slowed, and never starved."""

_MOST = 10
_LOOK_AGAIN = 1.0
"""Seconds after which room is looked for unasked: pauses end without a word."""
_LAPSE = timedelta(milliseconds=250)


class Gate:
    """Lets the threads that receive pass, one per queue, when there is room.

    A thread that passes books room for what it asks for. The booking lapses after a moment: a long poll that has not
    returned by then stands at an empty queue, and must not keep the others from receiving. So what it brings
    later may exceed the room, by one request's worth per queue.

    While `more_soon` says that chunks in hand are about to end, it waits a moment for the room that they leave: a
    request, and the claim that follows it, cost the same for one message and for ten.
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
        self._booked: dict[Priority, tuple[int, float]] = {}
        self._used: dict[Priority, float] = dict.fromkeys(weights, 0.0)
        self._reached = 0.0
        """How much, by its weight, the queue had used that passed last."""
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many queues wait for their turn."""
        return len(self._waiting)

    def enter(self, queue: Priority) -> int:
        """Wait for this queue's turn. Gives how many messages may be received; 0 once the gate is closed."""
        with self._changed:
            # A queue that was empty for long has not saved up turns for later.
            self._used[queue] = max(self._used[queue], self._reached)
            self._waiting.add(queue)
            # When a little room has waited for more for long enough.
            give_in: float | None = None
            try:
                while not self._closed:
                    now = self._clock()
                    free = self._free(now)
                    if free > 0 and self._is_next(queue):
                        give_in = now + MOMENT.total_seconds() if give_in is None else give_in
                        if free < _MOST and now < give_in and self._more_soon():
                            self._changed.wait(give_in - now)
                            continue
                        granted = min(free, _MOST)
                        self._reached = self._used[queue]
                        self._booked[queue] = (granted, now + self._lapse)
                        return granted
                    self._changed.wait(min(self._until_lapse(now), _LOOK_AGAIN))
                return 0
            finally:
                self._waiting.discard(queue)
                self._changed.notify_all()

    def leave(self, queue: Priority, received: int) -> None:
        """Say how many messages the queue gave."""
        with self._changed:
            self._booked.pop(queue, None)
            self._used[queue] += received / self._weights[queue]
            self._changed.notify_all()

    def stir(self) -> None:
        """Look again whether there is room. Cheap when nobody waits for it."""
        if self._waiting and self._room() > 0:
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody pass any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_next(self, queue: Priority) -> bool:
        return queue is min(self._waiting, key=lambda other: (self._used[other], -self._weights[other]))

    def _free(self, now: float) -> int:
        return self._room() - sum(count for count, lapses in self._booked.values() if lapses > now)

    def _until_lapse(self, now: float) -> float:
        return min((lapses - now for _, lapses in self._booked.values() if lapses > now), default=_LOOK_AGAIN)
