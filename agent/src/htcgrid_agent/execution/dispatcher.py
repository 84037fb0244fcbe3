"""Gives the tasks of claimed chunks to workers, by priority and order of arrival. Runs in the event loop."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from htcgrid_agent.execution.batch_sizing import BatchSizing
from htcgrid_agent.execution.quarantine import Quarantine
from htcgrid_agent.execution.worker import (
    State,
    Worker,
)
from htcgrid_agent.runtimes.launcher import Launcher
from htcgrid_agent.telemetry.metrics import COMPLETED, Metrics
from htcgrid_agent.work.capacity import Capacity
from htcgrid_agent.work.conclusion import max_result_bytes, results_too_large
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.memory import PayloadMemory
from htcgrid_agent.work.task import (
    Batch,
    Failed,
    Task,
    TaskEnd,
)
from htcgrid_chunks.clock import Clock
from htcgrid_events import Priority

_LOG = logging.getLogger(__name__)
_REBALANCE_SECONDS = 0.02
"""How long a worker may be at one task before idle workers take over the tasks that wait behind it."""
_MAX_BATCH_BYTES = 1024 * 1024
"""Size of the events in a batch of more than one task, but for its last."""


class Dispatcher:
    """Knows the workers and the jobs.

    Calls `concluded` for each job all of whose tasks have ended, `mark` for each task that must be marked in the row
    before it runs, and `notify_capacity` whenever there may be capacity for more chunks.
    """

    def __init__(
        self,
        launcher: Launcher,
        arn: str,
        workers: int,
        init_timeout: timedelta,
        capacity: Capacity,
        memory: PayloadMemory,
        clock: Clock,
        concluded: Callable[[Job], None],
        mark: Callable[[Job, int], None],
        notify_capacity: Callable[[], None],
        quarantine: Quarantine,
        metrics: Metrics,
    ) -> None:
        self._capacity = capacity
        self._memory = memory
        self._clock = clock
        self._concluded = concluded
        self._mark = mark
        self._notify_capacity = notify_capacity
        self._quarantine = quarantine
        self._metrics = metrics
        self._workers = [Worker(number, launcher, arn, self, clock, init_timeout) for number in range(workers)]
        self._ready: deque[Worker] = deque()
        self._waiting: dict[Priority, deque[Job]] = {priority: deque() for priority in Priority}
        self._running: dict[Batch, tuple[Job, Worker]] = {}
        self._sizing = BatchSizing()
        self._rebalancing: asyncio.TimerHandle | None = None
        self._jobs: set[Job] = set()
        self._draining = False
        self.idle = asyncio.Event()
        """Set while no task runs."""
        self.idle.set()

    async def start(self) -> None:
        """Start the workers."""
        for worker in self._workers:
            await worker.start()
        self.changed()

    async def stop(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._workers:
            await worker.stop()

    def add(self, jobs: Sequence[Job]) -> None:
        """Run the open tasks of chunks."""
        for job in jobs:
            if job.lost:
                self._capacity.chunks_dropped(1)
                self._memory.release(job)
                job.release_data()
                continue
            self._jobs.add(job)
            job.waiting = len(job.pending) + len(job.isolated)
            self._capacity.tasks_queued(job.waiting)
            if self._draining or not (job.pending or job.isolated):
                self._conclude(job)
            elif job.pending:
                self._waiting[job.delivery.priority].append(job)
            else:
                self._mark_next(job)
        self._assign()

    def marked(self, job: Job, offset: int) -> None:
        """Run a task that has been marked in the row."""
        if job in self._jobs:
            job.pending.append(offset)
            self._waiting[job.delivery.priority].append(job)
            self._assign()

    @property
    def states(self) -> dict[str, float]:
        """How many workers are in each state."""
        counts = dict.fromkeys((state.name.lower() for state in State), 0.0)
        for worker in self._workers:
            counts[worker.state.name.lower()] += 1
        return counts

    @property
    def refused_connections(self) -> int:
        """How many connections to workers' Runtime APIs came from processes that are not theirs."""
        return sum(worker.refused_connections for worker in self._workers)

    @property
    def usable(self) -> bool:
        """Whether any worker can run tasks, or soon will."""
        return any(worker.usable for worker in self._workers)

    def release_waiting(self, received_before: int) -> None:
        """Hand back chunks that were received before this moment (ms) and of which no task has started.

        Another agent may be idle.
        """
        for job in [job for job in self._jobs if not (job.running or job.ends or job.concluding)]:
            if job.delivery.received_at < received_before:
                _LOG.info("a chunk that would wait on is handed back", extra=job.ids)
                self._conclude(job)

    def drop(self, job: Job) -> None:
        """Stop the tasks of a job whose lease is lost, and forget it."""
        if job not in self._jobs:
            return
        self._stop(job)
        self._jobs.discard(job)
        self._capacity.tasks_withdrawn(job.waiting)
        self._capacity.chunks_dropped(1)
        self._memory.release(job)
        job.release_data()
        job.pending.clear()
        job.isolated.clear()
        self._notify_capacity()

    def memory_relieved(self) -> None:
        """Start tasks that waited for memory."""
        self._assign()

    def drain(self) -> None:
        """Start no more tasks. Jobs of which no task runs are concluded as they are."""
        self._draining = True
        for batch, (_, worker) in list(self._running.items()):
            worker.take_back(batch)
        for job in [job for job in self._jobs if not job.running]:
            self._conclude(job)

    def stop_tasks(self) -> None:
        """Stop all running tasks, and conclude their jobs without them. Stopped runtimes are not replaced."""
        for worker in self._workers:
            worker.retire()
        for job in list(self._jobs):
            self._stop(job)
            self._conclude(job)

    # --- called by the workers ---

    def ready(self, worker: Worker) -> None:
        """See `Owner`."""
        self._ready.append(worker)
        self._assign()

    def changed(self) -> None:
        """See `Owner`."""
        self._capacity.set_workers(sum(worker.usable for worker in self._workers))
        self._notify_capacity()

    def broken(self, worker: Worker, failure: Failed) -> None:
        """See `Owner`. While no worker can load the handler, each failed start fails the tasks of one waiting chunk."""
        if any(other.healthy or other.starting_well for other in self._workers if other is not worker):
            return
        job = self._next_job()
        if job is None or self._draining:
            return
        self._count(job.chunk.key.session_id, failure)
        while job.pending:
            job.ends[job.pending.popleft()] = failure
            job.waiting -= 1
            self._capacity.tasks_started(1)
            self._capacity.task_ended(0.0)
        if not job.running:
            self._conclude(job)

    def _assign(self) -> None:
        while self._ready and not self._draining:
            job = self._next_job()
            if job is None:
                self._rebalance_later()
                return
            worker = self._ready.popleft()
            if worker.can_take:
                self._start(job, worker)

    def _next_job(self) -> Job | None:
        for jobs in self._waiting.values():
            while jobs and not jobs[0].pending:
                jobs.popleft()
            found = next((job for job in jobs if job.pending and self._memory.may_start(job)), None)
            if found:
                return found
        return None

    def _start(self, job: Job, worker: Worker) -> None:
        tasks = self._next_tasks(job, self._batch_size(job) if worker.takes_batches else 1)
        if not job.started_at:
            job.started_at = self._clock()
        job.running += len(tasks)
        job.waiting -= len(tasks)
        queued = job.delivery.queued
        batch = Batch(
            session_id=queued.session_id,
            chunk=queued.chunk,
            attempt=job.chunk.attempt,
            timeout_seconds=queued.task_timeout_seconds,
            tasks=tasks,
            owner=self,
        )
        self._running[batch] = (job, worker)
        self.idle.clear()
        self._capacity.tasks_started(len(tasks))
        worker.give(batch)

    def _batch_size(self, job: Job) -> int:
        """How many tasks a worker is given: enough to be worth a message, and no more than its fair share."""
        fair = math.ceil(self._capacity.waiting / len(self._workers))
        return min(fair, self._sizing.batch_size(job.delivery.queued.session_id))

    @staticmethod
    def _next_tasks(job: Job, max_tasks: int) -> deque[Task]:
        tasks: deque[Task] = deque()
        size = 0
        while job.pending and (not tasks or (len(tasks) < max_tasks and size < _MAX_BATCH_BYTES)):
            offset = job.pending.popleft()
            tasks.append(Task(job.chunk.first_task + offset, job.inputs[offset]))
            size += len(job.inputs[offset])
        return tasks

    def _rebalance_later(self) -> None:
        if self._rebalancing is None and any(len(batch.tasks) > 1 for batch in self._running):
            self._rebalancing = asyncio.get_running_loop().call_later(_REBALANCE_SECONDS, self._rebalance)

    def _rebalance(self) -> None:
        """Take back the tasks that wait behind long ones, and give them to idle workers."""
        self._rebalancing = None
        for batch, (_, worker) in list(self._running.items()):
            if len(batch.tasks) > 1 and worker.seconds_at_task > _REBALANCE_SECONDS:
                self._sizing.record(batch.session_id, worker.seconds_at_task)
                worker.take_back(batch)
        self._assign()

    # --- called for batches ---

    def task_ended(self, batch: Batch, task: Task, end: TaskEnd, seconds: float) -> None:
        """See `BatchOwner`."""
        job, worker = self._running[batch]
        if isinstance(end, Failed):
            now = self._clock()
            end = replace(end, started_at=now - int(seconds * 1000), ended_at=now)
            _LOG.warning(
                "a task failed: %s %.100s",
                end.kind,
                end.type,
                extra={**job.ids, "task": task.number, "worker": worker.number},
            )
        job.running -= 1
        job.ran += 1
        job.worker_seconds += seconds
        job.ends[task.number - job.chunk.first_task] = self._bounded(job, end)
        self._capacity.task_ended(seconds)
        self._sizing.record(batch.session_id, seconds)
        self._metrics.task_seconds.observe(seconds)
        self._count(batch.session_id, end)
        if not batch.tasks:
            self._forget(batch)
            self._continue(job)

    def tasks_returned(self, batch: Batch, tasks: Sequence[Task]) -> None:
        """See `BatchOwner`."""
        job, _ = self._running[batch]
        job.running -= len(tasks)
        job.waiting += len(tasks)
        self._capacity.tasks_returned(len(tasks))
        job.pending.extendleft(task.number - job.chunk.first_task for task in reversed(tasks))
        self._waiting[job.delivery.priority].appendleft(job)
        if not batch.tasks:
            self._forget(batch)
        self._continue(job)
        self._assign()

    def _forget(self, batch: Batch) -> None:
        del self._running[batch]
        self._update_idle()

    def _continue(self, job: Job) -> None:
        if not job.running and (self._draining or not (job.pending or job.isolated)):
            self._conclude(job)
        elif not job.running and not job.pending:
            self._mark_next(job)
        else:
            self._notify_capacity()

    def _bounded(self, job: Job, end: TaskEnd) -> TaskEnd:
        """`end`, or a failure where its result does not fit beside the other results of the chunk."""
        if isinstance(end, Failed):
            return end
        if job.result_bytes + len(end.result) > max_result_bytes(job.chunk.size):
            return results_too_large(job.chunk.size)
        job.result_bytes += len(end.result)
        self._memory.add(job, len(end.result))
        return end

    def _count(self, session_id: str, end: TaskEnd) -> None:
        self._metrics.tasks[end.kind if isinstance(end, Failed) else COMPLETED].inc()
        self._quarantine.ended(session_id, end)

    def _mark_next(self, job: Job) -> None:
        self._mark(job, job.isolated.popleft())

    def _conclude(self, job: Job) -> None:
        self._jobs.discard(job)
        job.finished_at = self._clock()
        job.release_data()
        self._capacity.tasks_withdrawn(job.waiting)
        job.pending.clear()
        job.isolated.clear()
        self._capacity.chunk_concluded()
        self._concluded(job)
        self._notify_capacity()

    def _stop(self, job: Job) -> None:
        for batch, (owner, worker) in list(self._running.items()):
            if owner is job:
                self._forget(batch)
                job.running -= len(batch.tasks)
                self._capacity.tasks_stopped(len(batch.tasks))
                worker.give_up(batch)

    def _update_idle(self) -> None:
        if not self._running:
            self.idle.set()
