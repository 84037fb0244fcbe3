"""Payloads in a durable store with a fast one in front of it: S3 behind Redis.

Nothing is ever in the cache alone, so whatever becomes of it costs time and no payload. Nothing is in it that may yet
be replaced either: a later put may not reach it, and readers would be given what was there before.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from htcgrid_dataplane.errors import DataPlaneError, PayloadMissing, StoreUnavailable
from htcgrid_dataplane.store import PayloadStore, may_be_replaced

_LOG = logging.getLogger(__name__)
_LARGEST_FILL: Final = 8 * 1024 * 1024
"""Bytes of the largest payload that is put into the cache when it is read in parts: it is held in memory for that."""


class WriteThroughStore:
    """A `PayloadStore` that is as durable as `durable`, and mostly as fast as `cache`."""

    def __init__(
        self,
        durable: PayloadStore,
        cache: PayloadStore,
        rest: timedelta = timedelta(seconds=5),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put `cache` in front of `durable`.

        Args:
            durable: keeps every payload.
            cache: should fail soon where it does not answer, and forget by itself.
            rest: how long the cache is left alone after it failed.
            clock: seconds that only grow.
        """
        self.durable = durable
        """Where to put what will be replaced."""
        self._cache = cache
        self._rest = rest.total_seconds()
        self._clock = clock
        self._resting_until = float("-inf")
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """See `PayloadStore.put`. What is put under a key later must be the same: see `durable`."""
        self.durable.put(key, data)
        self._fill(key, data)

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        if self._is_used():
            try:
                return self._cache.get(key, size)
            except DataPlaneError as error:
                self._failed(error)
        data = self.durable.get(key, size)
        # Of results only their writer knows whether they are the last ones.
        if not may_be_replaced(key):
            self._fill(key, data)
        return data

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        given = 0
        if self._is_used():
            try:
                for part in self._cache.stream(key, size):
                    yield part
                    given += len(part)
            except DataPlaneError as error:
                self._failed(error)
            else:
                return
        if size <= _LARGEST_FILL:
            yield self.get(key, size)[given:]
            return
        for part in self.durable.stream(key, size):
            # What the cache has given before it failed is not given again.
            known = min(given, len(part))
            given -= known
            if part[known:]:
                yield part[known:]

    def _fill(self, key: str, data: bytes) -> None:
        if self._is_used():
            try:
                self._cache.put(key, data)
            except DataPlaneError as error:
                self._failed(error)

    def _is_used(self) -> bool:
        return self._clock() >= self._resting_until

    def _failed(self, error: DataPlaneError) -> None:
        if not isinstance(error, StoreUnavailable):
            if not isinstance(error, PayloadMissing):
                _LOG.warning("the cache holds what it should not: %s", error)
            return
        with self._lock:
            if self._is_used():
                self._resting_until = self._clock() + self._rest
                _LOG.warning("the cache is left alone for %g s: %s", self._rest, error)
