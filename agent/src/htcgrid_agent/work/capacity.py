"""Counts the chunks and tasks in hand, and computes how many more chunks the agent can start soon."""

import math
import threading
from datetime import timedelta

_SOON = timedelta(milliseconds=250)
"""How much work may wait per worker, estimated from past chunks: enough to hide the latency of receiving."""
_SMOOTHING = 0.2
BATCHING_WAIT = timedelta(milliseconds=10)
"""How long something may wait for more, where one request for many saves requests."""


class Capacity:
    """The free and the used capacity of the agent. Thread-safe."""

    def __init__(self, workers: int, prefetch: int) -> None:
        self._workers = workers
        self._prefetch = prefetch
        self._changed = threading.Condition()
        self._chunks = 0
        self._received = 0
        self._concluding = 0
        self._waiting = 0
        self._running = 0
        self._task_seconds: float | None = None
        self._chunk_tasks = 1.0

    @property
    def chunks(self) -> int:
        """Chunks that are held and not being concluded."""
        return self._chunks

    @property
    def concluding(self) -> int:
        """Chunks whose outcome is being written."""
        return self._concluding

    @property
    def received(self) -> int:
        """Chunks that have been received since the agent began."""
        return self._received

    def room(self) -> int:
        """How many more chunks can be started soon.

        There is always room for idle workers. Beyond that, chunks may wait up to the prefetch limit, but only as much
        work as will be started soon: a long task must not wait here while another agent is idle.
        """
        with self._changed:
            # Outcomes that cannot be written must not pile up: receiving stops until they can.
            limit = self._workers * (1 + self._prefetch)
            most = limit - self._chunks - max(0, self._concluding - 4 * limit)
            idle = self._workers - self._running - self._waiting
            for_idle = math.ceil(idle / self._chunk_tasks)
            return min(most, max(for_idle, self._prefetchable()))

    @property
    def more_room_soon(self) -> bool:
        """Whether the chunks in hand are so short that there will be more room within `BATCHING_WAIT`."""
        seconds = self._task_seconds
        return bool(
            self._chunks and seconds is not None and seconds * self._chunk_tasks < BATCHING_WAIT.total_seconds()
        )

    def expects_more(self) -> bool:
        """Whether other chunks may be concluded soon, so that it is worth waiting for them with a request."""
        return self._chunks > 0

    @property
    def waiting(self) -> int:
        """Tasks that wait for a worker."""
        return self._waiting

    def wait_until_empty(self, within: timedelta) -> bool:
        """Wait until no chunk is worked on; false if that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._chunks, within.total_seconds())

    def set_workers(self, workers: int) -> None:
        """Set how many workers can be given tasks."""
        with self._changed:
            self._workers = workers

    def chunks_received(self, chunks: int) -> None:
        """Chunks have been received."""
        with self._changed:
            self._chunks += chunks
            self._received += chunks

    def chunks_dropped(self, chunks: int) -> None:
        """Received chunks are no longer worked on."""
        with self._changed:
            self._chunks -= chunks
            self._changed.notify_all()

    def tasks_queued(self, tasks: int) -> None:
        """A chunk with this many open tasks waits for workers."""
        with self._changed:
            self._waiting += tasks
            self._chunk_tasks += _SMOOTHING * (max(1, tasks) - self._chunk_tasks)

    def tasks_started(self, tasks: int) -> None:
        """Waiting tasks were given to a worker."""
        with self._changed:
            self._waiting -= tasks
            self._running += tasks

    def tasks_returned(self, tasks: int) -> None:
        """Tasks that were given to a worker wait again."""
        with self._changed:
            self._waiting += tasks
            self._running -= tasks

    def task_ended(self, seconds: float) -> None:
        """A task ended after this many seconds."""
        with self._changed:
            self._running -= 1
            known = self._task_seconds
            self._task_seconds = seconds if known is None else known + _SMOOTHING * (seconds - known)

    def tasks_withdrawn(self, tasks: int) -> None:
        """Waiting tasks will not be started here."""
        with self._changed:
            self._waiting -= tasks

    def tasks_stopped(self, tasks: int) -> None:
        """Running tasks were stopped before their end."""
        with self._changed:
            self._running -= tasks

    def chunk_concluded(self) -> None:
        """All tasks of a chunk have ended; its outcome is still to be written."""
        with self._changed:
            self._chunks -= 1
            self._concluding += 1
            self._changed.notify_all()

    def chunks_written(self, chunks: int) -> None:
        """The outcomes of chunks have been written or discarded."""
        with self._changed:
            self._concluding -= chunks

    def _prefetchable(self) -> int:
        if self._task_seconds is None:
            return 0
        waiting = self._waiting * self._task_seconds
        chunk = max(1e-6, self._chunk_tasks * self._task_seconds)
        return int((self._workers * _SOON.total_seconds() - waiting) / chunk)
