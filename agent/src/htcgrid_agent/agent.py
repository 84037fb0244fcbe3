"""The agent: its parts wired together, from the first message to the last."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import botocore.session

from htcgrid_agent.clients import dynamodb, sqs
from htcgrid_agent.dispatcher import Dispatcher
from htcgrid_agent.gate import Gate
from htcgrid_agent.jobs import Job
from htcgrid_agent.launching import Launcher
from htcgrid_agent.leases import LeaseKeeper
from htcgrid_agent.load import Load
from htcgrid_agent.outbox import Outbox
from htcgrid_agent.payloads import LazyStore, Payloads
from htcgrid_agent.queues import MAX_WAIT_SECONDS, EventQueue, TaskQueues
from htcgrid_agent.receiver import Receiver
from htcgrid_agent.rows import RowWriter
from htcgrid_agent.settings import Settings
from htcgrid_agent.tasks import Failed
from htcgrid_agent.wire import DYNAMODB, SQS, JsonClient
from htcgrid_controlplane.backoff import Backoff
from htcgrid_controlplane.chunk_store import ChunkStore
from htcgrid_controlplane.clock import Clock, system_clock
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, PayloadStore, StoreUnavailable
from htcgrid_events import FailureKind

_LOG = logging.getLogger(__name__)
_TRANSFERS = 4
_FLUSH = timedelta(seconds=20)


class Agent:
    """Runs until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        session: botocore.session.Session,
        launcher: Launcher,
        arn: str,
        clock: Clock = system_clock,
    ) -> None:
        pollers = len(settings.task_queue_urls)
        read_timeout = timedelta(seconds=MAX_WAIT_SECONDS + 10)
        rows = JsonClient(DYNAMODB, session, connections=pollers + 2, read_timeout=read_timeout)
        messages = sqs(JsonClient(SQS, session, connections=pollers + 4, read_timeout=read_timeout))
        lease = timedelta(seconds=settings.lease_seconds)
        store = ChunkStore(dynamodb(rows), settings.chunks_table)
        queues = TaskQueues(messages, settings.task_queue_urls, settings.lease_seconds, clock)
        self._grace = settings.grace_seconds
        self._load = Load(settings.workers, settings.prefetch)
        self._gate = Gate(self._load.room)
        self._payloads = Payloads(LazyStore(partial(s3_store, session, settings.data_bucket)))
        self._outbox = Outbox(queues, EventQueue(messages, settings.task_events_queue_url))
        self._transfers = ThreadPoolExecutor(_TRANSFERS, "transfer")
        self._keeper = LeaseKeeper(store, queues, lease, clock, self._lost, self._kept)
        self._rows = RowWriter(
            agent_id=settings.agent_id,
            store=store,
            payloads=self._payloads,
            keeper=self._keeper,
            outbox=self._outbox,
            load=self._load,
            transfers=self._transfers,
            backoff=Backoff(base=timedelta(seconds=settings.retry_base_seconds)),
            clock=clock,
            stirred=self._gate.stir,
        )
        self._dispatcher = Dispatcher(
            launcher, arn, settings.workers, self._load, clock, self._rows.conclude, self._gate.stir
        )
        self._receiver = Receiver(
            agent_id=settings.agent_id,
            queues=queues,
            store=store,
            keeper=self._keeper,
            gate=self._gate,
            load=self._load,
            clock=clock,
            claimed=self._claimed,
            outbox=self._outbox,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._broken = False

    def stop(self) -> None:
        """Stop soon, and sooner if said twice. Nothing is lost either way. To be called in the event loop."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def run(self) -> int:
        """Run until stopped; gives the exit code."""
        self._loop = asyncio.get_running_loop()
        threading.excepthook = self._thread_broke
        self._loop.set_exception_handler(self._loop_broke)
        await self._dispatcher.start()
        self._keeper.start()
        self._rows.start()
        self._outbox.start()
        self._receiver.start()
        _LOG.info("the agent is up")
        await self._stopping.wait()
        _LOG.info("the agent stops: %d chunks in hand", self._load.chunks)
        await self._wind_down()
        _LOG.info("the agent has stopped")
        return 1 if self._broken else 0

    async def _wind_down(self) -> None:
        self._receiver.close()
        self._dispatcher.drain()
        await asyncio.to_thread(self._receiver.settle, _FLUSH)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._dispatcher.quiet, self._hurrying)]
        await asyncio.wait(waits, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._dispatcher.quiet.is_set():
            _LOG.warning("the grace period is over: running tasks are stopped and handed back")
        self._dispatcher.cut_short()
        await asyncio.to_thread(self._load.wait_until_empty, _FLUSH)
        for stage in (self._rows, self._outbox):
            if not await asyncio.to_thread(stage.flush, _FLUSH):
                _LOG.error("not everything could be written: what is left comes back when its lease ends")
        for part in (self._keeper, self._rows, self._outbox):
            part.close()
        await self._dispatcher.stop()

    def _claimed(self, jobs: Sequence[Job]) -> None:
        """Called by the threads that receive."""
        near = [job for job in jobs if job.chunk.inputs.data is not None and job.chunk.results.stored_bytes is None]
        if near:
            self._fill(near)
        for job in jobs:
            if job not in near:
                self._transfers.submit(self._fill, [job])

    def _fill(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                self._payloads.fill(job)
            except (PayloadMissing, PayloadCorrupt) as error:
                failure = Failed(FailureKind.INPUT, type(error).__name__, str(error))
                job.ends = dict.fromkeys(job.chunk.open_offsets, failure)
            except StoreUnavailable as error:
                job.set_back = True
                _LOG.warning("the inputs are out of reach: %s", error, extra=job.ids)
        self._in_loop(self._dispatcher.add, jobs)

    def _lost(self, job: Job) -> None:
        """Called by the thread that keeps leases."""
        self._in_loop(self._dispatcher.drop, job)

    def _kept(self, job: Job) -> None:
        """Called by the thread that keeps leases."""
        self._rows.checkpoint(job)

    def _thread_broke(self, what: threading.ExceptHookArgs) -> None:
        thread = what.thread.name if what.thread else "?"
        _LOG.critical("a bug ended the thread %s: the agent stops", thread, exc_info=what.exc_value)
        self._broken = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.stop)

    def _loop_broke(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _LOG.critical("a bug: %s; the agent stops", context.get("message"), exc_info=context.get("exception"))
        self._broken = True
        self.stop()

    def _in_loop(self, function: Callable[..., None], argument: object) -> None:
        if self._loop is None:
            raise RuntimeError("the agent does not run yet")
        self._loop.call_soon_threadsafe(function, argument)


def s3_store(session: botocore.session.Session, bucket: str) -> PayloadStore:
    """The data plane in S3."""
    # Imported when it is needed: an agent whose payloads are small saves 20 MB.
    import boto3.session

    from htcgrid_dataplane.s3 import S3Store

    return S3Store(boto3.session.Session(botocore_session=session).client("s3"), bucket)
