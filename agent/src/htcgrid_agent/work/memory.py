"""Bounds the memory that the payloads of all chunks in hand take together."""

import threading
from collections import deque
from collections.abc import Callable

from htcgrid_agent.work.job import Job


class PayloadMemory:
    """Lends out `limit` bytes. Thread-safe.

    Half of it is for inputs, the rest for the results to come. A chunk whose inputs do not fit waits until others have
    ended, in the order of arrival, and holds nothing meanwhile. One that needs more than there is gets it when no other
    chunk holds any, so it runs alone. Once results fill the rest, only the tasks of the chunk that has held memory for
    longest are started, until there is room again. Whenever that may have changed, `relieved` is called.
    """

    def __init__(self, limit: int, relieved: Callable[[], None]) -> None:
        self._limit = limit
        self._relieved = relieved
        self._lock = threading.Lock()
        self._held: dict[Job, int] = {}
        """Bytes by job, in the order in which they began to hold some."""
        self._total = 0
        self._waiting: deque[tuple[Job, int, Callable[[], None]]] = deque()
        self._closed = False

    @property
    def total(self) -> int:
        """How many bytes are held."""
        return self._total

    @property
    def full(self) -> bool:
        """Whether no more chunks should be received."""
        return bool(self._waiting) or self._total >= self._limit // 2

    def may_start(self, job: Job) -> bool:
        """Whether tasks of a job may be started now."""
        if self._total <= self._limit:
            return True
        with self._lock:
            return next(iter(self._held), job) is job

    def grow(self, job: Job, size: int) -> bool:
        """Let a job hold `size` bytes, unless it holds more. False if there is no room: it holds what it held."""
        with self._lock:
            return self._take(job, size)

    def shrink(self, job: Job, size: int) -> None:
        """Let a job hold no more than `size` bytes."""
        with self._lock:
            spare = max(0, self._held.get(job, 0) - size)
            if spare:
                self._held[job] -= spare
                self._total -= spare
            granted = self._granted()
        self._call(granted)

    def when_free(self, job: Job, size: int, then: Callable[[], None]) -> None:
        """Let a job hold `size` bytes as soon as there is room, and call `then`, perhaps at once. It holds none until
        then."""
        with self._lock:
            self._drop(job)
            self._waiting.append((job, size, then))
            granted = self._granted()
        self._call(granted)

    def add(self, job: Job, size: int) -> None:
        """A job that holds memory has a result of `size` bytes more."""
        with self._lock:
            if job in self._held:
                self._held[job] += size
                self._total += size

    def release(self, job: Job) -> None:
        """A job is no longer in hand."""
        with self._lock:
            crowded = self._total > self._limit
            self._drop(job)
            granted = self._granted()
        self._call(granted)
        if crowded:
            # There is room, or another chunk is now the first.
            self._relieved()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._lock:
            self._closed = True
            granted = self._granted()
        self._call(granted)

    def _take(self, job: Job, size: int) -> bool:
        mine = self._held.get(job, 0)
        others = self._total - mine
        if size <= mine:
            return True
        if others and others + size > self._limit // 2 and not self._closed:
            return False
        self._held[job] = size
        self._total = others + size
        return True

    def _drop(self, job: Job) -> None:
        self._total -= self._held.pop(job, 0)

    def _granted(self) -> list[Callable[[], None]]:
        granted = []
        while self._waiting and self._take(*self._waiting[0][:2]):
            granted.append(self._waiting.popleft()[2])
        return granted

    @staticmethod
    def _call(granted: list[Callable[[], None]]) -> None:
        for then in granted:
            then()
