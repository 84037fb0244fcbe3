"""The agent: its parts wired together, from the first message to the last."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import botocore.session

from htcgrid_agent.aws.boto_shaped import (
    dynamodb,
    s3,
    sqs,
)
from htcgrid_agent.aws.breaker import (
    Breaker,
    BreakerState,
)
from htcgrid_agent.aws.client import (
    JsonClient,
    ObjectClient,
    Reach,
)
from htcgrid_agent.aws.spot import SpotNotices
from htcgrid_agent.aws.sqs import (
    MAX_WAIT_SECONDS,
    TaskEvents,
    TaskMessages,
)
from htcgrid_agent.execution.dispatcher import Dispatcher
from htcgrid_agent.execution.quarantine import Quarantine
from htcgrid_agent.protocol.gate import Gate
from htcgrid_agent.protocol.lease_keeper import LeaseKeeper
from htcgrid_agent.protocol.outbox import Outbox
from htcgrid_agent.protocol.payloads import Payloads
from htcgrid_agent.protocol.receiver import Receiver
from htcgrid_agent.protocol.row_writer import RowWriter
from htcgrid_agent.protocol.transfers import Transfers
from htcgrid_agent.runtimes.launcher import Launcher
from htcgrid_agent.settings import Settings
from htcgrid_agent.telemetry.metrics import Registry
from htcgrid_agent.vitals import Vitals
from htcgrid_agent.work.capacity import Load
from htcgrid_agent.work.conclusion import Runner
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.task import Failed
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.clock import (
    Clock,
    system_clock,
)
from htcgrid_chunks.store import ChunkStore
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, StoreUnavailable
from htcgrid_dataplane.s3 import S3Store
from htcgrid_events import FailureKind

_LOG = logging.getLogger(__name__)
_TRANSFERS = 4
_FLUSH = timedelta(seconds=20)
_FAILURES = 8
"""So many requests to a service must fail in a row, each counted with its repetitions, before it is left alone."""
_PAUSE = Backoff(base=timedelta(seconds=1), cap=timedelta(seconds=30))
_HANDING_BACK = timedelta(seconds=5)
"""What is kept of a spot notice's time to stop tasks and write what they have yielded."""


class Agent:
    """Runs until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        session: botocore.session.Session,
        launcher: Launcher,
        arn: str,
        function_digest: str = "",
        clock: Clock = system_clock,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._metrics = Registry()
        self._breakers = {name: Breaker(name, _FAILURES, _PAUSE) for name in ("dynamodb", "sqs", "s3")}
        self._quarantine = Quarantine(settings.quarantine_after)
        self._load = Load(settings.workers, settings.prefetch)
        self._gate = Gate(self._room, lambda: self._load.more_room_soon)
        self._transfers = Transfers(_TRANSFERS, self._broke)
        messages = sqs(JsonClient("sqs", self._reach(session, "sqs")))
        store = ChunkStore(dynamodb(JsonClient("dynamodb", self._reach(session, "dynamodb"))), settings.chunks_table)
        queues = TaskMessages(messages, settings.task_queue_urls, settings.lease_seconds, clock)
        bucket = settings.data_bucket
        self._payloads = Payloads(S3Store(s3(ObjectClient(bucket, self._reach(session, "s3"))), bucket))
        self._outbox = Outbox(
            queues,
            TaskEvents(messages, settings.task_events_queue_url),
            self._load.has_company,
            self._metrics.batch_size,
        )
        self._keeper = LeaseKeeper(store, queues, self._lease, clock, self._lost, self._kept)
        self._rows = RowWriter(
            runner=Runner(settings.agent_id, settings.host, function_digest),
            store=store,
            payloads=self._payloads,
            keeper=self._keeper,
            outbox=self._outbox,
            load=self._load,
            transfers=self._transfers,
            clock=clock,
            stirred=self._gate.stir,
            marked=self._marked,
            metrics=self._metrics,
        )
        self._dispatcher = Dispatcher(
            launcher=launcher,
            arn=arn,
            workers=settings.workers,
            init_timeout=timedelta(seconds=settings.init_timeout_seconds),
            load=self._load,
            clock=clock,
            ended=self._rows.conclude,
            marking=self._rows.mark,
            stirred=self._gate.stir,
            quarantine=self._quarantine,
            metrics=self._metrics,
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
            metrics=self._metrics,
        )
        self._grace = timedelta(seconds=settings.grace_seconds)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._exit_code = 0
        self._vitals = Vitals(
            dispatcher=self._dispatcher,
            load=self._load,
            keeper=self._keeper,
            quarantine=self._quarantine,
            breakers=self._breakers,
            metrics=self._metrics,
            lease=self._lease,
            stopping=self._stopping.is_set,
        )

    def _reach(self, session: botocore.session.Session, service: str) -> Reach:
        return Reach(
            session=session,
            breaker=self._breakers[service],
            requests=self._metrics.requests,
            connections=len(self._settings.task_queue_urls) + _TRANSFERS,
            read_timeout=timedelta(seconds=MAX_WAIT_SECONDS + 10),
        )

    def stop(self) -> None:
        """Stop soon, and sooner if said twice. Nothing is lost either way. To be called in the event loop."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    def stop_within(self, time_left: timedelta) -> None:
        """Stop, with all written when so much time has passed. To be called in the event loop."""
        _LOG.warning("the host is taken away in %.0f s", time_left.total_seconds())
        self._grace = max(timedelta(0), min(self._grace, time_left - _HANDING_BACK))
        self._stopping.set()

    async def run(self) -> int:
        """Run until stopped; gives the exit code.

        Raises:
            OSError: a port is taken.
        """
        self._loop = asyncio.get_running_loop()
        threading.excepthook = self._thread_broke
        self._loop.set_exception_handler(self._loop_broke)
        probes = await self._serve_probes()
        await self._dispatcher.start()
        for part in (self._keeper, self._rows, self._outbox, self._receiver):
            part.start()
        watch = asyncio.create_task(self._watch())
        _LOG.info("the agent is up")
        await self._stopping.wait()
        _LOG.info("the agent stops: %d chunks in hand", self._load.chunks)
        await self._wind_down()
        watch.cancel()
        if probes:
            probes.close()
        _LOG.info("the agent has stopped")
        return self._exit_code

    async def _serve_probes(self) -> asyncio.Server | None:
        port = self._settings.health_port
        return None if port is None else await self._vitals.serve(self._settings.health_host, port)

    async def _watch(self) -> None:
        if self._settings.watch_spot:
            await SpotNotices().watch(self.stop_within)

    async def _wind_down(self) -> None:
        self._receiver.close()
        self._dispatcher.drain()
        await asyncio.to_thread(self._receiver.settle, _FLUSH)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._dispatcher.quiet, self._hurrying)]
        await asyncio.wait(waits, timeout=self._grace.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._dispatcher.quiet.is_set():
            _LOG.warning("the grace period is over: running tasks are stopped and handed back")
        self._dispatcher.cut_short()
        await asyncio.to_thread(self._load.wait_until_empty, _FLUSH)
        for stage in (self._rows, self._outbox):
            if not await asyncio.to_thread(stage.flush, _FLUSH):
                _LOG.error("not everything could be written: what is left comes back when its lease ends")
        for part in (self._keeper, self._rows, self._outbox, self._transfers):
            part.close()
        await self._dispatcher.stop()

    def _room(self) -> int:
        """How many chunks more may be received now."""
        # What cannot be claimed must not be received.
        if self._quarantine.active or self._breakers["dynamodb"].state is BreakerState.OPEN:
            return 0
        room = self._load.room()
        return min(room, 1 - self._load.chunks) if self._quarantine.probation else room

    # --- called by the threads of other parts ---

    def _claimed(self, jobs: Sequence[Job]) -> None:
        near = [job for job in jobs if job.chunk.inputs.data is not None and job.chunk.results.stored_bytes is None]
        if near:
            self._fill(near)
        for job in jobs:
            if job not in near:
                self._transfers.do(self._fill, [job])

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

    def _marked(self, job: Job, offset: int) -> None:
        self._in_loop(self._dispatcher.marked, job, offset)

    def _lost(self, job: Job) -> None:
        self._in_loop(self._dispatcher.drop, job)

    def _kept(self, job: Job) -> None:
        self._rows.checkpoint(job)
        if not job.started_at:
            self._in_loop(self._dispatcher.release_waiting, self._clock() - int(self._lease.total_seconds() * 1000))

    def _thread_broke(self, what: threading.ExceptHookArgs) -> None:
        if what.exc_value:
            self._broke(what.exc_value)

    def _loop_broke(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._broke(context.get("exception") or RuntimeError(context.get("message")))

    def _broke(self, error: BaseException) -> None:
        _LOG.critical("a bug: the agent stops", exc_info=error)
        self._exit_code = 1
        self._in_loop(self._stopping.set)

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            raise RuntimeError("the agent does not run yet")
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)
