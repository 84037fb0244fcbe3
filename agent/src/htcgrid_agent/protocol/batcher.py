"""Gathers single items into batch requests: one thread, one queue, one kind of request."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from htcgrid_agent.aws.entries import EntryResult, send_isolated
from htcgrid_agent.errors import AWS_ERRORS, CircuitOpen
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_chunks.backoff import Backoff

_LOG = logging.getLogger(__name__)
_BACKOFF = Backoff(base=timedelta(milliseconds=100), cap=timedelta(seconds=10))

T = TypeVar("T")


class Batcher(Generic[T]):
    """Hands items to `send` in the order of their arrival, up to `max_items` at a time.

    The first item of a batch waits up to `linger` for others while `expects_more` says that some may come. More gather
    while a request is under way.

    `send` gives a result for each item, or raises one of `AWS_ERRORS`: then the whole batch is sent again after a
    backoff. A single item that is to be retried goes behind those that arrived meanwhile, and one that AWS refuses for
    good is counted and handed to `refused`, so that no item ever blocks the others.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[T]], Sequence[EntryResult]],
        *,
        refused: Callable[[T], None],
        max_items: int,
        linger: timedelta,
        expects_more: Callable[[], bool] = lambda: True,
        metrics: Metrics,
    ) -> None:
        self._name = name
        self._send = send
        self._refused = refused
        self._max_items = max_items
        self._linger = linger.total_seconds()
        self._expects_more = expects_more
        self._sizes = metrics.batch_size.labels(name)
        self._refusals = metrics.refused.labels(name)
        self._items: deque[T] = deque()
        self._busy = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, item: T) -> None:
        """Send an item soon."""
        self.put_all([item])

    def put_all(self, items: Sequence[T]) -> None:
        """Send items soon, together where they fit."""
        if not items:
            return
        with self._changed:
            self._items.extend(items)
            self._changed.notify_all()

    @property
    def pending(self) -> int:
        """How many items wait to be sent; those under way are not counted."""
        return len(self._items)

    def stop_lingering(self) -> None:
        """From now on, send items at once."""
        with self._changed:
            self._linger = 0.0
            self._changed.notify_all()

    def flush(self, within: timedelta) -> bool:
        """Wait until everything is sent, without lingering; false if that took longer than `within`."""
        self.stop_lingering()
        with self._changed:
            return self._changed.wait_for(lambda: not self._items and not self._busy, within.total_seconds())

    def close(self) -> None:
        """Stop sending. Items that have not been sent are dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while batch := self._next_batch():
            self._sizes.observe(len(batch))
            results, pause = self._try(batch)
            again = [item for item, result in zip(batch, results, strict=True) if result is EntryResult.RETRY]
            failures = failures + 1 if again else 0
            with self._changed:
                if len(again) == len(batch):
                    self._items.extendleft(reversed(again))
                else:
                    self._items.extend(again)
                self._busy = False
                self._changed.notify_all()
                if again:
                    wait = _BACKOFF.wait(failures, random.random).total_seconds() if pause is None else pause
                    self._changed.wait_for(lambda: self._closing, wait)

    def _try(self, batch: Sequence[T]) -> tuple[Sequence[EntryResult], float | None]:
        """Send a batch. Gives the result of each item, and for how many seconds to pause if that is known."""
        try:
            results = send_isolated(self._send, batch, EntryResult.REFUSED)
        except CircuitOpen as error:
            return [EntryResult.RETRY] * len(batch), error.seconds
        except AWS_ERRORS as error:
            _LOG.warning("%s: %d items could not be sent yet: %s", self._name, len(batch), error)
            return [EntryResult.RETRY] * len(batch), None
        for item, result in zip(batch, results, strict=True):
            if result is EntryResult.REFUSED:
                self._refusals.inc()
                self._refused(item)
        return results, None

    def _next_batch(self) -> list[T]:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closing)
            if self._linger and len(self._items) < self._max_items and not self._closing and self._expects_more():
                end = time.monotonic() + self._linger
                self._changed.wait_for(
                    lambda: len(self._items) >= self._max_items or self._closing or not self._linger,
                    end - time.monotonic(),
                )
            if self._closing:
                return []
            batch = [self._items.popleft() for _ in range(min(self._max_items, len(self._items)))]
            self._busy = True
            return batch
