"""Writes the outcomes of chunks: first their results, then their rows, and then it sends their events.

A draft is one pending write of a job: the final one, when all its tasks have ended, or a checkpoint at a heartbeat, so
that a long chunk need not start over when its agent dies.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from htcgrid_agent.aws.entries import EntryResult, send_isolated
from htcgrid_agent.errors import AWS_ERRORS
from htcgrid_agent.protocol.batcher import Batcher
from htcgrid_agent.protocol.lease_keeper import LeaseKeeper
from htcgrid_agent.protocol.outbox import Outbox
from htcgrid_agent.protocol.payloads import Payloads
from htcgrid_agent.protocol.transfers import Transfers
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_agent.work.capacity import Capacity
from htcgrid_agent.work.conclusion import (
    Conclusion,
    Runner,
    attempt_of,
    conclude,
    retrying_task,
)
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.memory import PayloadMemory
from htcgrid_agent.work.task import (
    AGENT_LOST,
    Completed,
    Failed,
    TaskEnd,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.partiql import MAX_STATEMENTS
from htcgrid_chunks.store import (
    ChunkProgress,
    ChunkStore,
)
from htcgrid_dataplane import StoreUnavailable
from htcgrid_events import MAX_LISTED_RETRIES, Attempt, RetryPolicy, TasksRetrying

_LOG = logging.getLogger(__name__)
_LINGER = timedelta(milliseconds=10)
_BACKOFF = Backoff(base=timedelta(seconds=1))
"""For what is not the fault of a task: payloads that cannot be read or stored for now."""
_LARGE = 256 * 1024
"""Results of this many bytes are not compressed in the thread that writes rows, which other jobs wait for."""


@dataclass(frozen=True, eq=False)
class _Draft:
    job: Job
    ends: Mapping[int, TaskEnd]
    final: bool
    conclusion: Conclusion | None = None
    results: Payload = field(default_factory=Payload)
    marked: int | None = None
    """Offset of a task that is started after this checkpoint, which counts it as tried."""


class RowWriter:
    """Takes jobs from the event loop and the lease keeper, and writes them in batches.

    A request names each row at most once, as DynamoDB demands. A job whose lease is lost is not written.
    """

    def __init__(
        self,
        runner: Runner,
        store: ChunkStore,
        payloads: Payloads,
        keeper: LeaseKeeper,
        outbox: Outbox,
        capacity: Capacity,
        memory: PayloadMemory,
        transfers: Transfers,
        clock: Clock,
        notify_capacity: Callable[[], None],
        on_marked: Callable[[Job, int], None],
        metrics: Metrics,
    ) -> None:
        self._runner = runner
        self._store = store
        self._payloads = payloads
        self._keeper = keeper
        self._outbox = outbox
        self._capacity = capacity
        self._memory = memory
        self._transfers = transfers
        self._clock = clock
        self._notify_capacity = notify_capacity
        self._on_marked = on_marked
        self._chunks = metrics.chunks
        self._batches = Batcher(
            "rows",
            self._write,
            refused=self._handle_refused,
            max_items=MAX_STATEMENTS,
            linger=_LINGER,
            expects_more=capacity.expects_more,
            metrics=metrics,
        )
        self._changed = threading.Condition()
        self._unwritten = 0
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to write."""
        self._batches.start()

    def conclude(self, job: Job) -> None:
        """Write the final outcome of a job."""
        job.concluding = True
        with self._changed:
            self._unwritten += 1
        self._take(_Draft(job, job.ends, final=True))

    def checkpoint(self, job: Job) -> None:
        """Write the outcome of a job so far, if there is anything new."""
        if len(job.ends) > job.saved and not job.concluding:
            self._take(_Draft(job, dict(job.ends), final=False))

    def mark(self, job: Job, offset: int) -> None:
        """Count a task as tried before it is started, so that it is known if this agent dies over it."""
        job.marked.add(offset)
        self._take(_Draft(job, dict(job.ends), final=False, marked=offset))

    def flush(self, within: timedelta) -> bool:
        """Write all final outcomes now; false if that took longer than `within`."""
        self._batches.stop_lingering()
        with self._changed:
            return self._changed.wait_for(lambda: not self._unwritten, within.total_seconds())

    def close(self) -> None:
        """Stop writing."""
        self._closed.set()
        self._batches.close()

    def _take(self, draft: _Draft) -> None:
        size = sum(len(end.result) for end in draft.ends.values() if isinstance(end, Completed))
        if size > _LARGE:
            self._transfers.submit(self._encode_and_put, draft)
        else:
            self._batches.put(draft)

    def _encode_and_put(self, draft: _Draft) -> None:
        conclusion = self._conclusion(draft)
        self._put(replace(draft, conclusion=conclusion), self._payloads.encode(conclusion.lines))

    def _put(self, draft: _Draft, data: bytes) -> None:
        """Store results in the data plane, however long that takes, and then have the row written."""
        self._memory.add(draft.job, len(data))
        failures = 0
        while not (self._closed.is_set() or draft.job.lost):
            try:
                stored = self._put_once(draft, data)
            except StoreUnavailable as error:
                failures += 1
                _LOG.warning("the results could not be stored yet: %s", error, extra=draft.job.ids)
                if not draft.final and draft.marked is None:
                    return
                self._closed.wait(_BACKOFF.wait(failures, random.random).total_seconds())
            else:
                if stored:
                    self._batches.put(replace(draft, results=stored))
                return
        self._done([draft])

    def _put_once(self, draft: _Draft, data: bytes) -> Payload | None:
        # One after the other: a checkpoint must not replace final results.
        with draft.job.storing:
            if draft.job.concluding and not draft.final:
                return None
            results = self._payloads.put(draft.job, data, last=draft.final)
            draft.job.stored = True
            return results

    def _write(self, drafts: Sequence[_Draft]) -> list[EntryResult]:
        _mark_superseded(drafts)
        ready = {made: draft for draft in drafts if (made := self._ready(draft))}
        results = dict.fromkeys(drafts, EntryResult.ACCEPTED)
        checkpoints = [made for made in ready if not (made.final or made.job.concluding)]
        finals = [made for made in ready if made.final]
        finishes = [made for made in finals if not _conclusion_of(made).open_offsets]
        retries = [made for made in finals if _conclusion_of(made).open_offsets]
        for write, some in (
            (self._write_checkpoints, checkpoints),
            (self._write_finishes, finishes),
            (self._write_retries, retries),
        ):
            for made, result in zip(some, self._try(write, some), strict=True):
                results[ready[made]] = result
        return [results[draft] for draft in drafts]

    def _try(
        self, write: Callable[[Sequence[_Draft]], Sequence[EntryResult]], drafts: Sequence[_Draft]
    ) -> Sequence[EntryResult]:
        if not drafts:
            return []
        try:
            return send_isolated(write, drafts, EntryResult.REFUSED)
        except AWS_ERRORS as error:
            _LOG.warning("%d chunks could not be written yet: %s", len(drafts), error)
        # Other checkpoints are made anew at the next heartbeat.
        needed = [draft.final or draft.marked is not None for draft in drafts]
        return [EntryResult.RETRY if again else EntryResult.ACCEPTED for again in needed]

    def _handle_refused(self, draft: _Draft) -> None:
        _LOG.error("DynamoDB refuses the row for good: the attempt is given up", extra=draft.job.ids)
        if draft.final:
            self._chunks.labels("refused").inc()
            self._done([draft])
        else:
            self._keeper.lose(draft.job)

    def _ready(self, draft: _Draft) -> _Draft | None:
        """The draft with its results in place; none if they are to be stored first, or if its lease is lost."""
        if draft.job.lost:
            self._done([draft])
            return None
        if draft.conclusion:
            return draft
        conclusion = self._conclusion(draft)
        draft = replace(draft, conclusion=conclusion)
        if not draft.ends:
            return draft
        data = self._payloads.encode(conclusion.lines)
        if self._payloads.fits_row(draft.job, data):
            return replace(draft, results=Payload(data))
        self._transfers.submit(self._put, draft, data)
        return None

    def _write_checkpoints(self, drafts: Sequence[_Draft]) -> list[EntryResult]:
        # The latest draft of a job contains what the others do.
        latest = {draft.job: draft for draft in drafts}
        lease = self._keeper.expiry(self._clock())
        answers = self._store.checkpoint([(job.lease, self._progress(draft), lease) for job, draft in latest.items()])
        # A lost lease is found by the next heartbeat.
        kept = {job for job, accepted in zip(latest, answers, strict=True) if accepted}
        for draft in drafts:
            if draft.job in kept:
                draft.job.saved = max(draft.job.saved, len(draft.ends))
                if draft.marked is not None:
                    self._on_marked(draft.job, draft.marked)
        return [EntryResult.ACCEPTED] * len(drafts)

    def _write_finishes(self, drafts: Sequence[_Draft]) -> list[EntryResult]:
        work = [(draft, self._progress(draft)) for draft in drafts]
        answers = self._store.finish([(draft.job.lease, progress) for draft, progress in work])
        self._outbox.finished(
            [
                (draft.job.delivery, _as_written(draft.job, progress), draft.job.work_done)
                for (draft, progress), accepted in zip(work, answers, strict=True)
                if self._is_written(draft, accepted)
            ]
        )
        self._done(drafts)
        return [EntryResult.ACCEPTED] * len(drafts)

    def _write_retries(self, drafts: Sequence[_Draft]) -> list[EntryResult]:
        retries = [(draft, self._retry_at(draft)) for draft in drafts]
        answers = self._store.retry([(draft.job.lease, self._progress(draft), at) for draft, at in retries])
        written = [
            (draft, at)
            for (draft, at), accepted in zip(retries, answers, strict=True)
            if self._is_written(draft, accepted)
        ]
        now = self._clock()
        self._outbox.hide([(draft.job.delivery, _seconds_until(at, now)) for draft, at in written])
        self._outbox.retrying(
            [event for event in (_retrying(draft, at, self._runner) for draft, at in written) if event]
        )
        self._done(drafts)
        return [EntryResult.ACCEPTED] * len(drafts)

    def _done(self, drafts: Sequence[_Draft]) -> None:
        finals = [draft for draft in drafts if draft.final]
        for draft in finals:
            self._keeper.release(draft.job)
            self._memory.release(draft.job)
        self._capacity.chunks_written(len(finals))
        with self._changed:
            self._unwritten -= len(finals)
            self._changed.notify_all()
        self._notify_capacity()

    def _is_written(self, draft: _Draft, accepted: bool) -> bool:
        if not accepted:
            self._chunks.labels("lost").inc()
            _LOG.warning("the lease was lost: the results of the tasks are discarded", extra=draft.job.ids)
            return False
        conclusion = _conclusion_of(draft)
        if conclusion.open_offsets:
            self._chunks.labels("retry" if conclusion.retry else "handed back").inc()
        else:
            self._chunks.labels("finished").inc()
        return True

    def _conclusion(self, draft: _Draft) -> Conclusion:
        job = draft.job
        return conclude(job.chunk, job.earlier_results, draft.ends, job.delivery.queued, self._runner)

    def _progress(self, draft: _Draft) -> ChunkProgress:
        job, conclusion = draft.job, _conclusion_of(draft)
        stages = job.chunk.stages
        # A mark is taken back when its task did not fail, also where no other task has ever failed.
        tries = {offset: job.chunk.tries.get(offset, 0) for offset in job.marked} | dict(conclusion.tries)
        history = dict(conclusion.history)
        if not draft.final:
            lost = self._as_if_lost()
            for offset in job.marked - draft.ends.keys():
                tries[offset] += 1
                history[offset] = (*history.get(offset, ()), lost)
        return ChunkProgress(
            outcomes=conclusion.outcomes,
            results=draft.results,
            tries=tries,
            started_at=job.started_at or stages.started_at,
            finished_at=stages.finished_at if conclusion.open_offsets else job.finished_at,
            history=history,
            function_digests=self._digests(draft),
            store_before=job.chunk.results.store,
        )

    def _digests(self, draft: _Draft) -> tuple[str, ...]:
        """The versions of the function that have run tasks of the chunk, this agent's among them if it has run any."""
        earlier, mine = draft.job.chunk.function_digests, self._runner.function_digest
        ran = bool(draft.ends) or bool(draft.job.marked)
        return (*earlier, mine) if ran and mine and mine not in earlier else earlier

    def _as_if_lost(self) -> Attempt:
        now = self._clock()
        return attempt_of(replace(AGENT_LOST, started_at=now, ended_at=now), self._runner)

    def _retry_at(self, draft: _Draft) -> int:
        job = draft.job
        wait = timedelta(0)
        if retry := _conclusion_of(draft).retry:
            wait = _backoff_of(job.delivery.queued).wait(retry, random.random)
        elif job.inputs_unavailable:
            wait = _BACKOFF.wait(job.chunk.attempt, random.random)
        return self._clock() + int(wait.total_seconds() * 1000)


def _mark_superseded(drafts: Sequence[_Draft]) -> None:
    """Mark jobs as lost whose chunk this agent has claimed again: DynamoDB refuses a request that names a row twice."""
    newest: dict[ChunkKey, int] = {}
    for draft in drafts:
        chunk = draft.job.chunk
        newest[chunk.key] = max(chunk.attempt, newest.get(chunk.key, 0))
    for draft in drafts:
        if draft.job.chunk.attempt < newest[draft.job.chunk.key]:
            draft.job.lost = True


def _backoff_of(policy: RetryPolicy) -> Backoff:
    return Backoff(
        timedelta(seconds=policy.retry_base_seconds),
        policy.retry_factor,
        timedelta(seconds=policy.retry_cap_seconds),
    )


def _conclusion_of(draft: _Draft) -> Conclusion:
    if draft.conclusion is None:
        raise RuntimeError("a draft is written before its outcomes are known")
    return draft.conclusion


def _retrying(draft: _Draft, retry_at: int, runner: Runner) -> TasksRetrying | None:
    """The event of the tasks that failed in this attempt and are run again, if there are any."""
    job, conclusion = draft.job, _conclusion_of(draft)
    failed = [(offset, draft.ends[offset]) for offset in conclusion.open_offsets if offset in draft.ends]
    tasks = [
        retrying_task(job.chunk, offset, end, conclusion.tries[offset], runner)
        for offset, end in failed[:MAX_LISTED_RETRIES]
        if isinstance(end, Failed)
    ]
    if not tasks:
        return None
    return TasksRetrying(
        session_id=job.chunk.key.session_id,
        tenant=job.chunk.tenant,
        chunk=job.chunk.key.chunk,
        attempt=job.chunk.attempt,
        retry_at=retry_at,
        tasks=tuple(tasks),
        failed=len(failed),
        work=job.work_done,
    )


def _as_written(job: Job, progress: ChunkProgress) -> Chunk:
    times = {"started_at": progress.started_at, "finished_at": progress.finished_at}
    stages = job.chunk.stages.model_copy(update=times)
    return replace(
        job.chunk,
        outcomes=progress.outcomes,
        results=progress.results,
        stages=stages,
        function_digests=progress.function_digests,
    )


def _seconds_until(moment: int, now: int) -> int:
    return -(-max(0, moment - now) // 1000)
