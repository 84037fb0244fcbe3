"""Sends heartbeats: extends the leases of claimed chunks and keeps their messages hidden, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from htcgrid_agent.aws.entries import send_isolated
from htcgrid_agent.aws.sqs import TaskMessages
from htcgrid_agent.errors import AWS_ERRORS
from htcgrid_agent.work.job import Job
from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.store import ChunkStore

_LOG = logging.getLogger(__name__)
MARGIN_MS = 1_000
"""A lease ends this much before its message is shown again, so that whoever receives it can claim the chunk at once."""


class LeaseKeeper:
    """Extends the leases of all jobs together, three times within a lease, and first before their messages reappear.

    `lost` is called for each lost lease, `extended` for each that was extended; mostly in this thread.
    """

    def __init__(
        self,
        store: ChunkStore,
        messages: TaskMessages,
        lease: timedelta,
        clock: Clock,
        lost: Callable[[Job], None],
        extended: Callable[[Job], None],
    ) -> None:
        self._store = store
        self._messages = messages
        self._lease = lease
        self._clock = clock
        self._lost = lost
        self._extended = extended
        self._interval_ms = int(lease.total_seconds() * 1000 / 3)
        self._first_interval_ms = int(min(messages.hidden_for, lease).total_seconds() * 1000 / 3)
        self._due: dict[Job, int] = {}
        self._jobs: dict[ChunkKey, Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._last_run = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to send heartbeats."""
        self._thread.start()

    @property
    def seconds_since_heartbeat(self) -> float:
        """How long ago it last looked for leases to extend."""
        return time.monotonic() - self._last_run

    def expiry(self, received_at: int) -> int:
        """When the lease of a chunk ends whose message was hidden at `received_at` (both in ms since the epoch)."""
        return received_at + int(self._lease.total_seconds() * 1000) - MARGIN_MS

    def keep(self, job: Job) -> None:
        """Extend the lease of a job from now on. An earlier attempt of this agent at the same chunk has lost its lease,
        whatever it is doing."""
        with self._changed:
            former = self._jobs.get(job.chunk.key)
            self._jobs[job.chunk.key] = job
            self._due[job] = job.delivery.received_at + self._first_interval_ms
        if former:
            self.lose(former)

    def lose(self, job: Job) -> None:
        """Treat the lease of a job as lost."""
        # At once, and not when the event loop comes to it: the next write must leave the job out.
        job.lost = True
        self.release(job)
        _LOG.warning("the lease is lost: the results of its tasks are discarded", extra=job.ids)
        self._lost(job)

    def release(self, job: Job) -> None:
        """Extend the lease of a job no longer."""
        with self._changed:
            self._due.pop(job, None)
            if self._jobs.get(job.chunk.key) is job:
                del self._jobs[job.chunk.key]

    def close(self) -> None:
        """Send no more heartbeats."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def extend_due(self) -> None:
        """Extend all leases that are due."""
        now = self._clock()
        with self._changed:
            jobs = [job for job, due in self._due.items() if due <= now and not job.lost]
        if not jobs:
            return
        expiry = self.expiry(now)
        answers = send_isolated(
            lambda some: self._store.extend([job.lease for job in some], expiry), jobs, refused=False
        )
        extended = [job for job, accepted in zip(jobs, answers, strict=True) if accepted]
        for job, accepted in zip(jobs, answers, strict=True):
            if not accepted and self._still_keeps(job):
                self.lose(job)
        seconds = int(self._lease.total_seconds())
        self._messages.hide([(job.delivery, seconds) for job in extended])
        with self._changed:
            self._due.update((job, now + self._interval_ms) for job in extended if job in self._due)
        for job in extended:
            self._extended(job)

    def _still_keeps(self, job: Job) -> bool:
        # A job that was finished during the request has no lease to lose.
        with self._changed:
            return job in self._due and not job.concluding

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, self._first_interval_ms / 1000):
                    return
            self._last_run = time.monotonic()
            try:
                self.extend_due()
            except AWS_ERRORS as error:
                # The lease lasts for two more heartbeats; if it is lost then, the next write finds out.
                _LOG.warning("a heartbeat failed: %s", error)
