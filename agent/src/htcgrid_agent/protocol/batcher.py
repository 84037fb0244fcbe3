"""Gathers single items into requests of many: one thread, one queue, one kind of request."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from htcgrid_agent.errors import OUT_OF_REACH, ServiceAvoided
from htcgrid_agent.telemetry.metrics import Histogram
from htcgrid_chunks.backoff import Backoff

_LOG = logging.getLogger(__name__)
_BACKOFF = Backoff(base=timedelta(milliseconds=100), cap=timedelta(seconds=10))

T = TypeVar("T")


class Batcher(Generic[T]):
    """Hands items to `send` in the order of their coming, `most` at a time.

    The first item of a batch waits at most `linger` for company, if `company` says that some may come; while a request
    is under way others gather anyway.
    `send` returns the items that it could not deliver, which are sent again after a backoff with those that came
    later; an error of `OUT_OF_REACH` means that none was delivered.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[T]], Sequence[T]],
        *,
        most: int,
        linger: timedelta,
        company: Callable[[], bool] = lambda: True,
        sizes: Histogram | None = None,
    ) -> None:
        self._name = name
        self._send = send
        self._most = most
        self._linger = linger.total_seconds()
        self._company = company
        self._sizes = sizes
        self._items: deque[T] = deque()
        self._busy = False
        self._closing = False
        self._abandoned = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, item: T) -> None:
        """Send an item soon."""
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def put_all(self, items: Sequence[T]) -> None:
        """Send items soon, together where they fit."""
        if not items:
            return
        with self._changed:
            self._items.extend(items)
            self._changed.notify_all()

    @property
    def pending(self) -> int:
        """How many items have not been delivered yet, those under way not counted."""
        return len(self._items)

    def hurry(self) -> None:
        """Linger no more."""
        with self._changed:
            self._linger = 0.0
            self._changed.notify_all()

    def flush(self, within: timedelta) -> bool:
        """Wait until everything is delivered, without lingering; false if that took too long."""
        self.hurry()
        with self._changed:
            return self._changed.wait_for(lambda: not self._items and not self._busy, within.total_seconds())

    def close(self) -> None:
        """Stop sending. What has not been delivered by now is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while batch := self._next():
            if self._sizes:
                self._sizes.observe(len(batch), self._name)
            left, pause = self._try(batch)
            failures = failures + 1 if left else 0
            with self._changed:
                self._items.extendleft(reversed(left))
                self._busy = False
                self._changed.notify_all()
                if left:
                    wait = _BACKOFF.wait(failures, random.random).total_seconds() if pause is None else pause
                    self._changed.wait_for(lambda: self._closing, wait)

    def _try(self, batch: Sequence[T]) -> tuple[Sequence[T], float | None]:
        """What is left of a batch, and for how many seconds to pause if that is known."""
        try:
            return self._send(batch), None
        except ServiceAvoided as error:
            return batch, error.seconds
        except OUT_OF_REACH as error:
            _LOG.warning("%s: %d items were not sent yet: %s", self._name, len(batch), error)
            return batch, None

    def _next(self) -> list[T]:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closing)
            if self._linger and len(self._items) < self._most and not self._closing and self._company():
                end = time.monotonic() + self._linger
                self._changed.wait_for(
                    lambda: len(self._items) >= self._most or self._closing or not self._linger,
                    end - time.monotonic(),
                )
            if self._closing:
                return []
            batch = [self._items.popleft() for _ in range(min(self._most, len(self._items)))]
            self._busy = True
            return batch
