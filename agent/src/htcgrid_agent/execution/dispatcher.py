"""Gives the tasks of the chunks in hand to workers, in the order of priority and arrival. Lives in the event loop."""

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
from htcgrid_agent.telemetry.metrics import Registry
from htcgrid_agent.work.capacity import Load
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.task import (
    Batch,
    Failed,
    Task,
    TaskEnd,
)
from htcgrid_chunks.clock import Clock
from htcgrid_events import Priority

_LOG = logging.getLogger(__name__)
_PATIENCE = 0.02
"""Seconds that an idle worker watches another at one task before it takes over what waits there."""
_MOST_BYTES = 1024 * 1024
"""Of events in a batch with more than one task."""


class Dispatcher:
    """Knows the workers and the jobs.

    `ended` is told of each job all of whose tasks have ended, `stirred` whenever there may be room for more jobs, and
    `marking` of each task that must not run before the row says that it does.
    """

    def __init__(
        self,
        launcher: Launcher,
        arn: str,
        workers: int,
        init_timeout: timedelta,
        load: Load,
        clock: Clock,
        ended: Callable[[Job], None],
        marking: Callable[[Job, int], None],
        stirred: Callable[[], None],
        quarantine: Quarantine,
        metrics: Registry,
    ) -> None:
        self._load = load
        self._clock = clock
        self._ended = ended
        self._marking = marking
        self._stirred = stirred
        self._quarantine = quarantine
        self._metrics = metrics
        self._workers = [Worker(number, launcher, arn, self, clock, init_timeout) for number in range(workers)]
        self._ready: deque[Worker] = deque()
        self._waiting: dict[Priority, deque[Job]] = {priority: deque() for priority in Priority}
        self._running: dict[Batch, tuple[Job, Worker]] = {}
        self._pace = BatchSizing()
        self._levelling: asyncio.TimerHandle | None = None
        self._jobs: set[Job] = set()
        self._draining = False
        self.quiet = asyncio.Event()
        """Set while no task runs."""
        self.quiet.set()

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
            self._jobs.add(job)
            job.waiting = len(job.pending) + len(job.later)
            self._load.begun(job.waiting)
            if self._draining or not (job.pending or job.later):
                self._conclude(job)
            elif job.pending:
                self._waiting[job.delivery.priority].append(job)
            else:
                self._mark_next(job)
        self._pump()

    def marked(self, job: Job, offset: int) -> None:
        """The row says now that this task runs."""
        if job in self._jobs:
            job.pending.append(offset)
            self._waiting[job.delivery.priority].append(job)
            self._pump()

    @property
    def states(self) -> dict[str, float]:
        """How many workers are in each state."""
        counts = dict.fromkeys((state.name.lower() for state in State), 0.0)
        for worker in self._workers:
            counts[worker.state.name.lower()] += 1
        return counts

    @property
    def usable(self) -> bool:
        """Whether any worker can run tasks, or soon will."""
        return any(worker.usable for worker in self._workers)

    def release_waiting(self, received_before: int) -> None:
        """Hand back chunks that wait since `received_before` (ms) and have not begun: another agent may be idle."""
        for job in [job for job in self._jobs if not (job.running or job.ends or job.concluding)]:
            if job.delivery.received_at < received_before:
                _LOG.info("a chunk that would wait on is handed back", extra=job.ids)
                self._conclude(job)

    def drop(self, job: Job) -> None:
        """Stop a job and forget what it yielded: its lease is lost."""
        if job.lost or job.concluding or job not in self._jobs:
            return
        job.lost = True
        _LOG.warning("the lease is lost: its tasks are stopped", extra=job.ids)
        self._stop(job)
        self._jobs.discard(job)
        self._load.untouched(job.waiting)
        self._load.dropped(1)
        job.pending.clear()
        job.later.clear()
        self._stirred()

    def drain(self) -> None:
        """Start no task any more. Jobs none of whose tasks run are ended as they are."""
        self._draining = True
        for batch, (_, worker) in list(self._running.items()):
            worker.take_back(batch)
        for job in [job for job in self._jobs if not job.running]:
            self._conclude(job)

    def cut_short(self) -> None:
        """Stop all running tasks. Their jobs are ended without them, and no runtime takes the place of theirs."""
        for worker in self._workers:
            worker.retire()
        for job in list(self._jobs):
            self._stop(job)
            self._conclude(job)

    # --- what the workers say ---

    def ready(self, worker: Worker) -> None:
        """See `Owner`."""
        self._ready.append(worker)
        self._pump()

    def changed(self) -> None:
        """See `Owner`."""
        self._load.has_workers(sum(worker.usable for worker in self._workers))
        self._stirred()

    def broken(self, worker: Worker, failure: Failed) -> None:
        """See `Owner`. While no worker can load the handler, each failed start fails the tasks of one waiting chunk."""
        if any(other.healthy or other.starting_well for other in self._workers if other is not worker):
            return
        job = self._next_job()
        if job is None or self._draining:
            return
        self._judge(job.chunk.key.session_id, failure)
        while job.pending:
            job.ends[job.pending.popleft()] = failure
            job.waiting -= 1
            self._load.started(1)
            self._load.task_ended(0.0)
        if not job.running:
            self._conclude(job)

    def _pump(self) -> None:
        while self._ready and not self._draining:
            job = self._next_job()
            if job is None:
                self._level_later()
                return
            worker = self._ready.popleft()
            if worker.can_take:
                self._start(job, worker)

    def _next_job(self) -> Job | None:
        for jobs in self._waiting.values():
            while jobs:
                if jobs[0].pending:
                    return jobs[0]
                jobs.popleft()
        return None

    def _start(self, job: Job, worker: Worker) -> None:
        tasks = self._next_tasks(job, self._share(job) if worker.takes_batches else 1)
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
        self.quiet.clear()
        self._load.started(len(tasks))
        worker.give(batch)

    def _share(self, job: Job) -> int:
        """How many tasks a worker is given: what is worth a message, and leaves something for the others."""
        fair = math.ceil(self._load.waiting / len(self._workers))
        return min(fair, self._pace.share(job.delivery.queued.session_id))

    @staticmethod
    def _next_tasks(job: Job, most: int) -> deque[Task]:
        tasks: deque[Task] = deque()
        size = 0
        while job.pending and (not tasks or (len(tasks) < most and size < _MOST_BYTES)):
            offset = job.pending.popleft()
            tasks.append(Task(job.chunk.first_task + offset, job.inputs[offset]))
            size += len(job.inputs[offset])
        return tasks

    def _level_later(self) -> None:
        if self._levelling is None and any(len(batch.tasks) > 1 for batch in self._running):
            self._levelling = asyncio.get_running_loop().call_later(_PATIENCE, self._level)

    def _level(self) -> None:
        """Take back what waits behind long tasks, for the workers that are idle."""
        self._levelling = None
        for batch, (_, worker) in list(self._running.items()):
            if len(batch.tasks) > 1 and worker.seconds_at_task > _PATIENCE:
                self._pace.ran(batch.session_id, worker.seconds_at_task)
                worker.take_back(batch)
        self._pump()

    # --- what becomes of batches ---

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
        job.ends[task.number - job.chunk.first_task] = end
        self._load.task_ended(seconds)
        self._pace.ran(batch.session_id, seconds)
        self._metrics.task_seconds.observe(seconds)
        self._judge(batch.session_id, end)
        if not batch.tasks:
            self._forget(batch)
            self._go_on(job)

    def tasks_returned(self, batch: Batch, tasks: Sequence[Task]) -> None:
        """See `BatchOwner`."""
        job, _ = self._running[batch]
        job.running -= len(tasks)
        job.waiting += len(tasks)
        self._load.returned(len(tasks))
        job.pending.extendleft(task.number - job.chunk.first_task for task in reversed(tasks))
        self._waiting[job.delivery.priority].appendleft(job)
        if not batch.tasks:
            self._forget(batch)
        self._go_on(job)
        self._pump()

    def _forget(self, batch: Batch) -> None:
        del self._running[batch]
        self._note_quiet()

    def _go_on(self, job: Job) -> None:
        if not job.running and (self._draining or not (job.pending or job.later)):
            self._conclude(job)
        elif not job.running and not job.pending:
            self._mark_next(job)
        else:
            self._stirred()

    def _judge(self, session_id: str, end: TaskEnd) -> None:
        self._metrics.tasks.add(1, end.kind if isinstance(end, Failed) else "completed")
        self._quarantine.ended(session_id, end)

    def _mark_next(self, job: Job) -> None:
        self._marking(job, job.later.popleft())

    def _conclude(self, job: Job) -> None:
        self._jobs.discard(job)
        job.finished_at = self._clock()
        self._load.untouched(job.waiting)
        job.pending.clear()
        job.later.clear()
        self._load.concluded()
        self._ended(job)
        self._stirred()

    def _stop(self, job: Job) -> None:
        for batch, (owner, worker) in list(self._running.items()):
            if owner is job:
                self._forget(batch)
                job.running -= len(batch.tasks)
                self._load.stopped(len(batch.tasks))
                worker.give_up(batch)

    def _note_quiet(self) -> None:
        if not self._running:
            self.quiet.set()
