"""The agent: wires its parts together, starts them, and stops them in order."""

import asyncio
import logging
import threading
import time
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
    BreakerState,
    CircuitBreaker,
)
from htcgrid_agent.aws.client import (
    ClientConfig,
    JsonClient,
    ObjectClient,
)
from htcgrid_agent.aws.spot import SpotNotices
from htcgrid_agent.aws.sqs import (
    MAX_WAIT_SECONDS,
    TaskEvents,
    TaskMessages,
)
from htcgrid_agent.execution.dispatcher import Dispatcher
from htcgrid_agent.execution.quarantine import Quarantine
from htcgrid_agent.protocol.data_loading import DataLoading
from htcgrid_agent.protocol.gate import Gate
from htcgrid_agent.protocol.intake import Intake
from htcgrid_agent.protocol.lease_keeper import LeaseKeeper
from htcgrid_agent.protocol.outbox import Outbox
from htcgrid_agent.protocol.payloads import Payloads
from htcgrid_agent.protocol.receiver import Receiver
from htcgrid_agent.protocol.row_writer import RowWriter
from htcgrid_agent.protocol.transfers import Transfers
from htcgrid_agent.protocol.upkeep import Upkeep
from htcgrid_agent.runtimes.launcher import Launcher
from htcgrid_agent.settings import Settings
from htcgrid_agent.shared_data.cache import DataCache
from htcgrid_agent.shared_data.folder import DataFolder
from htcgrid_agent.shared_data.preload import Preload, PreloadList
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_agent.vitals import Vitals
from htcgrid_agent.work.capacity import Capacity
from htcgrid_agent.work.conclusion import Runner
from htcgrid_agent.work.idleness import Idleness
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.memory import PayloadMemory
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.clock import (
    Clock,
    system_clock,
)
from htcgrid_chunks.store import ChunkStore
from htcgrid_dataplane import TendedStore
from htcgrid_dataplane.s3 import S3Store
from htcgrid_dataplane.s3_parts import PARTS_AT_ONCE
from htcgrid_dataplane.stores import Stores

_LOG = logging.getLogger(__name__)
_TRANSFER_THREADS = 4
_FETCH_THREADS = 2
"""For shared data alone: it may be gigabytes, and must not keep payloads waiting. Each holds some 40 MB of it."""
_FLUSH_TIMEOUT = timedelta(seconds=20)
_BREAKER_FAILURES = 8
"""Failed requests in a row, retries included, after which the circuit breaker of a service opens."""
_BREAKER_PAUSE = Backoff(base=timedelta(seconds=1), cap=timedelta(seconds=30))
_LOOK_EVERY = timedelta(seconds=1)
"""Between two looks whether the agent is idle, where it ends for that."""
_HAND_BACK_TIME = timedelta(seconds=5)
"""How long before the interruption of a spot instance tasks are stopped, so that results can be written."""


class Agent:
    """One agent, which runs until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        session: botocore.session.Session,
        launcher: Launcher,
        arn: str,
        data: DataFolder | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._metrics = Metrics()
        self._breakers = {
            name: CircuitBreaker(name, _BREAKER_FAILURES, _BREAKER_PAUSE) for name in ("dynamodb", "sqs", "s3")
        }
        self._quarantine = Quarantine(settings.quarantine_after)
        self._capacity = Capacity(settings.workers, settings.prefetch)
        self._gate = Gate(self._free_chunks, lambda: self._capacity.more_room_soon)
        self._memory = PayloadMemory(settings.payload_memory_mb * 1024 * 1024, self._memory_relieved)
        self._transfers = Transfers(_TRANSFER_THREADS, self._stop_for_bug)
        queues = sqs(JsonClient("sqs", self._client_config(session, "sqs")))
        tables = dynamodb(JsonClient("dynamodb", self._client_config(session, "dynamodb")))
        store = ChunkStore(tables, settings.chunks_table)
        messages = TaskMessages(queues, settings.task_queue_urls, settings.lease_seconds, clock)
        bucket = settings.data_bucket
        objects = S3Store(s3(ObjectClient(bucket, self._client_config(session, "s3"))), bucket)
        stores = Stores(settings.store, settings.stores, objects)
        # Opened now: an agent that could not store a result is to receive nothing.
        payload_store = stores.current
        payloads = Payloads(stores, self._memory)
        self._upkeep = Upkeep(payload_store, self._metrics) if isinstance(payload_store, TendedStore) else None
        self._outbox = Outbox(
            messages,
            TaskEvents(queues, settings.task_events_queue_url),
            self._capacity.expects_more,
            self._metrics,
        )
        self._keeper = LeaseKeeper(store, messages, self._lease, clock, self._lease_lost, self._lease_extended)
        self._rows = RowWriter(
            runner=Runner(settings.agent_id, settings.host, lambda: launcher.function_digest),
            store=store,
            payloads=payloads,
            keeper=self._keeper,
            outbox=self._outbox,
            capacity=self._capacity,
            memory=self._memory,
            transfers=self._transfers,
            clock=clock,
            notify_capacity=self._gate.notify_capacity,
            on_marked=self._marked,
            metrics=self._metrics,
        )
        self._dispatcher = Dispatcher(
            launcher=launcher,
            arn=arn,
            workers=settings.workers,
            init_timeout=timedelta(seconds=settings.init_timeout_seconds),
            capacity=self._capacity,
            memory=self._memory,
            clock=clock,
            concluded=self._rows.conclude,
            mark=self._rows.mark,
            notify_capacity=self._gate.notify_capacity,
            quarantine=self._quarantine,
            metrics=self._metrics,
        )
        self._fetches = Transfers(_FETCH_THREADS, self._stop_for_bug)
        limit = None if settings.data_mb is None else settings.data_mb * 1024 * 1024
        # A client of its own, since gigabytes of shared data must not take the connections of payloads.
        shared = S3Store(s3(ObjectClient(bucket, self._client_config(session, "s3"))), bucket)
        cache = DataCache(data, limit, shared.stream, self._metrics) if data else None
        loading = DataLoading(cache, self._fetches, self._loaded, self._metrics)
        self._intake = Intake(payloads, self._transfers, self._memory, loading, self._loaded)
        self._preload: Preload | None = None
        if cache and settings.partitions_table:
            wanted = PreloadList(tables, settings.partitions_table, settings.partition, clock)
            self._preload = Preload(wanted, cache, lambda: loading.fetching)
        self._receiver = Receiver(
            agent_id=settings.agent_id,
            messages=messages,
            store=store,
            keeper=self._keeper,
            gate=self._gate,
            capacity=self._capacity,
            clock=clock,
            claimed=self._intake.add,
            outbox=self._outbox,
            metrics=self._metrics,
        )
        self._grace = timedelta(seconds=settings.grace_seconds)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled = False
        self._stopping = asyncio.Event()
        self._stop_tasks = asyncio.Event()
        self._exit_code = 0
        self._vitals = Vitals(
            dispatcher=self._dispatcher,
            capacity=self._capacity,
            memory=self._memory,
            keeper=self._keeper,
            quarantine=self._quarantine,
            breakers=self._breakers,
            metrics=self._metrics,
            lease=self._lease,
            stopping=self._stopping.is_set,
            data=cache,
        )

    def _client_config(self, session: botocore.session.Session, service: str) -> ClientConfig:
        return ClientConfig(
            session=session,
            breaker=self._breakers[service],
            requests=self._metrics.requests,
            connections=len(self._settings.task_queue_urls) + _TRANSFER_THREADS + PARTS_AT_ONCE,
            read_timeout=timedelta(seconds=MAX_WAIT_SECONDS + 10),
        )

    def stop(self) -> None:
        """Stop within the grace period; called again, stop now. Loses nothing. Call it in the event loop."""
        _LOG.info("a signal says to stop")
        self._stop_after(timedelta(0) if self._signalled else self._grace)
        self._signalled = True

    def stop_within(self, time_left: timedelta) -> None:
        """Stop so early that everything is written when this time has passed. Call it in the event loop."""
        # It says when the host ends, not that somebody is in a hurry: a signal that comes too is no second one.
        _LOG.warning("the host is interrupted in %.0f s", time_left.total_seconds())
        self._stop_after(max(timedelta(0), min(self._grace, time_left - _HAND_BACK_TIME)))

    def _stop_after(self, grace: timedelta) -> None:
        """Receive nothing more, and let tasks run for so long, unless an earlier end has been set."""
        self._stopping.set()
        asyncio.get_running_loop().call_later(grace.total_seconds(), self._stop_tasks.set)

    async def run(self) -> int:
        """Run until stopped, and give the exit code.

        Raises:
            OSError: a port is taken.
        """
        self._loop = asyncio.get_running_loop()
        threading.excepthook = self._handle_thread_error
        self._loop.set_exception_handler(self._handle_loop_error)
        probes = await self._serve_probes()
        await self._dispatcher.start()
        for part in (self._keeper, self._rows, self._outbox, self._receiver):
            part.start()
        if self._upkeep:
            self._upkeep.start()
        if self._preload:
            self._preload.start()
        watches = [asyncio.create_task(watch) for watch in (self._watch_spot(), self._watch_idleness())]
        _LOG.info("the agent is up")
        await self._stopping.wait()
        _LOG.info("the agent stops: %d chunks in hand", self._capacity.chunks)
        await self._wind_down()
        for watch in watches:
            watch.cancel()
        if probes:
            probes.close()
        _LOG.info("the agent has stopped")
        return self._exit_code

    async def _serve_probes(self) -> asyncio.Server | None:
        port = self._settings.health_port
        return None if port is None else await self._vitals.serve(self._settings.health_host, port)

    async def _watch_spot(self) -> None:
        if self._settings.watch_spot:
            await SpotNotices().watch(self.stop_within)

    async def _watch_idleness(self) -> None:
        seconds = self._settings.idle_seconds
        if seconds is None:
            return
        idleness = Idleness(timedelta(seconds=seconds))
        while not idleness.is_over(  # noqa: ASYNC110 -- what makes it idle is time
            self._capacity.received,
            self._capacity.chunks + self._capacity.concluding,
            self._free_chunks(),
            time.monotonic() * 1000,
        ):
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
        _LOG.info("idle for %d s", seconds)
        self.stop()

    async def _wind_down(self) -> None:
        self._receiver.close()
        if self._upkeep:
            self._upkeep.close()
        self._dispatcher.drain()
        await asyncio.to_thread(self._receiver.wait_until_idle, _FLUSH_TIMEOUT)
        self._intake.close()
        if self._preload:
            self._preload.close()
        waits = [asyncio.ensure_future(event.wait()) for event in (self._dispatcher.idle, self._stop_tasks)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._dispatcher.idle.is_set():
            _LOG.warning("the grace period is over: running tasks are stopped and handed back")
        self._dispatcher.stop_tasks()
        await asyncio.to_thread(self._capacity.wait_until_empty, _FLUSH_TIMEOUT)
        for stage in (self._rows, self._outbox):
            if not await asyncio.to_thread(stage.flush, _FLUSH_TIMEOUT):
                _LOG.error("not everything could be written: the rest is run again when its leases end")
        for part in (self._keeper, self._rows, self._outbox, self._transfers, self._fetches):
            part.close()
        await self._dispatcher.stop()

    def _free_chunks(self) -> int:
        """How many more chunks may be received now."""
        # Messages whose chunks cannot be claimed must not be received.
        if self._quarantine.active or self._memory.full or self._breakers["dynamodb"].state is BreakerState.OPEN:
            return 0
        room = self._capacity.room()
        return min(room, 1 - self._capacity.chunks) if self._quarantine.probation else room

    # --- called by other threads ---

    def _loaded(self, jobs: Sequence[Job]) -> None:
        self._in_loop(self._dispatcher.add, jobs)

    def _memory_relieved(self) -> None:
        self._in_loop(self._dispatcher.memory_relieved)

    def _marked(self, job: Job, offset: int) -> None:
        self._in_loop(self._dispatcher.marked, job, offset)

    def _lease_lost(self, job: Job) -> None:
        self._in_loop(self._dispatcher.drop, job)

    def _lease_extended(self, job: Job) -> None:
        self._rows.checkpoint(job)
        if not job.started_at:
            self._in_loop(self._dispatcher.release_waiting, self._clock() - int(self._lease.total_seconds() * 1000))

    def _handle_thread_error(self, what: threading.ExceptHookArgs) -> None:
        if what.exc_value:
            self._stop_for_bug(what.exc_value)

    def _handle_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._stop_for_bug(context.get("exception") or RuntimeError(context.get("message")))

    def _stop_for_bug(self, error: BaseException) -> None:
        _LOG.critical("a bug: the agent stops", exc_info=error)
        self._exit_code = 1
        self._in_loop(self._stop_after, self._grace)

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            raise RuntimeError("the agent does not run yet")
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)
