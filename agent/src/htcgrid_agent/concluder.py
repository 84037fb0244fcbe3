"""Writes what became of chunks: results, then the row, then the event, then the end of the message. In this order."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from htcgrid_agent.batcher import Batcher
from htcgrid_agent.jobs import Delivery, Job
from htcgrid_agent.leases import LeaseKeeper
from htcgrid_agent.load import Load
from htcgrid_agent.outcomes import Conclusion, conclude
from htcgrid_agent.payloads import Payloads
from htcgrid_agent.queues import MAX_BATCH, EventQueue, TaskQueues
from htcgrid_controlplane.backoff import Backoff
from htcgrid_controlplane.chunk_store import ChunkStore, Progress
from htcgrid_controlplane.chunks import Chunk, Payload
from htcgrid_controlplane.clock import Clock
from htcgrid_controlplane.partiql import MAX_STATEMENTS
from htcgrid_dataplane import StoreUnavailable
from htcgrid_events import ChunkFinished

_LOG = logging.getLogger(__name__)
_COMPANY = timedelta(milliseconds=10)
_UNHURRIED = timedelta(milliseconds=100)
"""How long a deletion waits for company: nobody waits for it."""


class _Event(NamedTuple):
    delivery: Delivery
    body: str


class _Concluded(NamedTuple):
    job: Job
    progress: Progress
    retry_at: int | None


class Concluder:
    """Takes jobs whose tasks have ended. Everything is batched across jobs."""

    def __init__(
        self,
        agent_id: str,
        store: ChunkStore,
        queues: TaskQueues,
        events: EventQueue,
        payloads: Payloads,
        keeper: LeaseKeeper,
        load: Load,
        backoff: Backoff,
        clock: Clock,
        stirred: Callable[[], None],
    ) -> None:
        self._agent_id = agent_id
        self._store = store
        self._events = events
        self._payloads = payloads
        self._keeper = keeper
        self._load = load
        self._backoff = backoff
        self._clock = clock
        self._stirred = stirred
        self._rows = Batcher("rows", self._write_rows, most=MAX_STATEMENTS, linger=_COMPANY)
        self._sent = Batcher("events", self._send_events, most=MAX_BATCH, linger=_COMPANY)
        self._deleted = Batcher("deletions", queues.delete, most=MAX_BATCH, linger=_UNHURRIED)
        self._hidden = Batcher("hidings", queues.hide, most=MAX_BATCH, linger=_COMPANY)
        # In the order in which one fills the next.
        self._stages = (self._rows, self._sent, self._deleted, self._hidden)

    def start(self) -> None:
        """Begin to write."""
        for stage in self._stages:
            stage.start()

    def flush(self, within: timedelta) -> bool:
        """Write everything that is under way; false if that took too long."""
        end = self._clock() + within.total_seconds() * 1000
        return all(stage.flush(timedelta(milliseconds=max(0, end - self._clock()))) for stage in self._stages)

    def close(self) -> None:
        """Stop writing."""
        for stage in self._stages:
            stage.close()

    def conclude(self, job: Job) -> None:
        """Write what became of a job."""
        self._rows.put(job)

    def repeat(self, delivery: Delivery, chunk: Chunk) -> None:
        """Send the event of a finished chunk once more, and then delete its message."""
        self._sent.put(_Event(delivery, _event(chunk)))

    def delete(self, delivery: Delivery) -> None:
        """Delete a message."""
        self._deleted.put(delivery)

    def hide(self, delivery: Delivery, seconds: int) -> None:
        """Show a message again after so many seconds."""
        self._hidden.put((delivery, seconds))

    def _write_rows(self, jobs: Sequence[Job]) -> list[Job]:
        left: list[Job] = []
        work: list[_Concluded] = []
        for job in jobs:
            try:
                if not job.lost:
                    work.append(self._concluded(job))
            except StoreUnavailable as error:
                _LOG.warning("the results could not be stored yet: %s", error, extra=job.ids)
                left.append(job)
        for item in work:
            item.job.concluding = True
        finishes = [item for item in work if item.retry_at is None]
        retries = [(item, item.retry_at) for item in work if item.retry_at is not None]
        if finishes:
            answers = self._store.finish([(item.job.held, item.progress) for item in finishes])
            self._finished([item for item, ok in zip(finishes, answers, strict=True) if self._is_written(item, ok)])
        if retries:
            answers = self._store.retry([(item.job.held, item.progress, at) for item, at in retries])
            for (item, at), ok in zip(retries, answers, strict=True):
                if self._is_written(item, ok):
                    self.hide(item.job.delivery, _seconds_until(at, self._clock()))
        for item in work:
            self._keeper.release(item.job)
        self._load.written(len(jobs) - len(left))
        self._stirred()
        return left

    def _finished(self, items: Sequence[_Concluded]) -> None:
        self._sent.put_all([_Event(item.job.delivery, _event(_as_written(item))) for item in items])

    def _concluded(self, job: Job) -> _Concluded:
        conclusion = conclude(job.chunk, job.so_far, job.ends, job.delivery.queued.max_retries, self._agent_id)
        results = self._payloads.keep(job, list(conclusion.lines)) if job.ends else Payload()
        stages = job.chunk.stages
        done = not conclusion.open_offsets
        progress = Progress(
            outcomes=conclusion.outcomes,
            results=results,
            tries=dict(conclusion.tries),
            started_at=job.started_at or stages.started_at,
            finished_at=job.finished_at if done else stages.finished_at,
        )
        return _Concluded(job, progress, None if done else self._retry_at(job, conclusion))

    def _retry_at(self, job: Job, conclusion: Conclusion) -> int:
        retry = conclusion.retry or (job.chunk.attempt if job.set_back else 0)
        wait = self._backoff.wait(retry, random.random) if retry else timedelta(0)
        return self._clock() + int(wait.total_seconds() * 1000)

    @staticmethod
    def _is_written(item: _Concluded, accepted: bool) -> bool:
        if not accepted:
            _LOG.warning("the lease was lost: what the tasks yielded is dropped", extra=item.job.ids)
        return accepted

    def _send_events(self, events: Sequence[_Event]) -> list[_Event]:
        refused = self._events.send([event.body for event in events])
        self._deleted.put_all([event.delivery for index, event in enumerate(events) if index not in refused])
        return [events[index] for index in sorted(refused)]


def _as_written(item: _Concluded) -> Chunk:
    chunk, progress = item.job.chunk, item.progress
    times = {"started_at": progress.started_at, "finished_at": progress.finished_at}
    return replace(
        chunk, outcomes=progress.outcomes, results=progress.results, stages=chunk.stages.model_copy(update=times)
    )


def _event(chunk: Chunk) -> str:
    return ChunkFinished(session_id=chunk.key.session_id, outcome=chunk.outcome()).model_dump_json()


def _seconds_until(moment: int, now: int) -> int:
    return -(-max(0, moment - now) // 1000)
