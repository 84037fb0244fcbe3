"""Keeps what the agent holds: prolongs the leases of rows and hides their messages, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from htcgrid_agent.aws.sqs import TaskMessages
from htcgrid_agent.errors import OUT_OF_REACH
from htcgrid_agent.work.job import Job
from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.store import ChunkStore

_LOG = logging.getLogger(__name__)
MARGIN_MS = 1_000
"""A row's lease ends this much before its message is shown again, so that who receives it may claim it at once."""


class LeaseKeeper:
    """Beats for all jobs together: three times within a lease, and the first time before their messages reappear.

    `lost` is told of each lost lease, and `kept` of each that was prolonged; mostly in this thread.
    """

    def __init__(
        self,
        store: ChunkStore,
        queues: TaskMessages,
        lease: timedelta,
        clock: Clock,
        lost: Callable[[Job], None],
        kept: Callable[[Job], None],
    ) -> None:
        self._store = store
        self._queues = queues
        self._lease = lease
        self._clock = clock
        self._lost = lost
        self._kept = kept
        self._next_beat = int(lease.total_seconds() * 1000 / 3)
        self._first_beat = int(min(queues.hidden_for, lease).total_seconds() * 1000 / 3)
        self._due: dict[Job, int] = {}
        self._held: dict[ChunkKey, Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    @property
    def seconds_since_beat(self) -> float:
        """How long ago it last looked after the leases."""
        return time.monotonic() - self._beaten

    def expiry(self, received_at: int) -> int:
        """When the lease of a row ends whose message was hidden at `received_at` (both in ms)."""
        return received_at + int(self._lease.total_seconds() * 1000) - MARGIN_MS

    def hold(self, job: Job) -> None:
        """Keep the lease of a job. An earlier attempt at its chunk that is still held here has lost its own."""
        with self._changed:
            former = self._held.get(job.chunk.key)
            self._held[job.chunk.key] = job
            self._due[job] = job.delivery.received_at + self._first_beat
        if former:
            self.release(former)
            self._lost(former)

    def release(self, job: Job) -> None:
        """Keep it no longer."""
        with self._changed:
            self._due.pop(job, None)
            if self._held.get(job.chunk.key) is job:
                del self._held[job.chunk.key]

    def close(self) -> None:
        """Stop beating."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def beat(self) -> None:
        """Prolong all leases that are due."""
        now = self._clock()
        with self._changed:
            jobs = [job for job, due in self._due.items() if due <= now and not job.lost]
        if not jobs:
            return
        answers = self._store.extend([job.held for job in jobs], self.expiry(now))
        held = [job for job, accepted in zip(jobs, answers, strict=True) if accepted]
        for job, accepted in zip(jobs, answers, strict=True):
            if not accepted and self._holds(job):
                self.release(job)
                self._lost(job)
        seconds = int(self._lease.total_seconds())
        self._queues.hide([(job.delivery, seconds) for job in held])
        with self._changed:
            self._due.update((job, now + self._next_beat) for job in held if job in self._due)
        for job in held:
            self._kept(job)

    def _holds(self, job: Job) -> bool:
        # A job that was finished while the beat was under way has no lease to lose.
        with self._changed:
            return job in self._due and not job.concluding

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, self._first_beat / 1000):
                    return
            self._beaten = time.monotonic()
            try:
                self.beat()
            except OUT_OF_REACH as error:
                # The lease lasts for two more beats; whether it is lost then is for the next write to find out.
                _LOG.warning("a heartbeat failed: %s", error)
