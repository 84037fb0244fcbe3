"""A worker: a place for one runtime process, which is started, given tasks, watched, killed and replaced."""

import asyncio
import logging
import random
import signal
import time
import uuid
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol

from htcgrid_agent.runtimes.batch_protocol import Frame
from htcgrid_agent.runtimes.launcher import (
    Exit,
    Launcher,
    Running,
)
from htcgrid_agent.runtimes.permits import Permits
from htcgrid_agent.runtimes.python_runtime import RESULT
from htcgrid_agent.runtimes.runtime_api import RuntimeConnection
from htcgrid_agent.work.conclusion import (
    completed_or_failed,
    completed_with_text,
    handler_failure,
    too_large,
)
from htcgrid_agent.work.task import (
    Batch,
    Failed,
    TaskEnd,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.clock import Clock
from htcgrid_events import FailureKind

_LOG = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_SECOND_LOOK = 0.02
"""Seconds for what a runtime has said already to be read, before it is killed for its silence."""
_CLOSING_SECONDS = 0.5
_NAMES = {number.value: number.name for number in signal.Signals}
"""Real-time signals between the first and the last have none."""
_BACKOFF = Backoff(base=timedelta(milliseconds=200), cap=timedelta(seconds=30))


class State(Enum):
    """What a worker does."""

    DOWN = auto()
    """No process, or one that is being killed."""
    STARTING = auto()
    """A process that has not asked for a task yet."""
    READY = auto()
    BUSY = auto()


class Owner(Protocol):
    """Who gives tasks to workers."""

    def ready(self, worker: "Worker") -> None:
        """The worker can take a task."""

    def changed(self) -> None:
        """A worker may have become usable, or be so no longer."""

    def broken(self, worker: "Worker", failure: Failed) -> None:
        """The worker's runtime ended before it asked for a first task."""


class Worker:
    """A place for one runtime. It has a port of its own, so that whoever connects to it is known."""

    def __init__(
        self, number: int, launcher: Launcher, arn: str, owner: Owner, clock: Clock, init_timeout: timedelta
    ) -> None:
        self.number = number
        self._init_timeout = init_timeout.total_seconds()
        self.state = State.DOWN
        self._launcher = launcher
        self._arn = arn
        self._owner = owner
        self._clock = clock
        self._address = ""
        self._server: asyncio.Server | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._running: Running | None = None
        self._permits = Permits()
        self._connections: set[RuntimeConnection] = set()
        self._disconnected = asyncio.Event()
        """Set while nobody is connected, so that all has been read that was sent."""
        self._disconnected.set()
        self._parked: RuntimeConnection | None = None
        self._batch: Batch | None = None
        self._request_id = ""
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._init_error: Failed | None = None
        self._failed_starts = 0
        self._at_fault = False
        self._retired = False
        self._was_usable = launcher.own
        self.refused_connections = 0
        """How many came from processes that are not the runtime's."""

    async def start(self) -> None:
        """Listen for a runtime, and keep one running from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, _HOST, self._launcher.port(self.number))
        port = self._server.sockets[0].getsockname()[1]
        self._address = f"{_HOST}:{port}"
        self._keep()

    def retire(self) -> None:
        """Start no other runtime when this one has ended."""
        self._retired = True

    async def stop(self) -> None:
        """End the runtime for good."""
        self.retire()
        if self._keeping:
            keeping, self._keeping = self._keeping, None
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if self._server:
            self._server.close()
        self._down()
        self._permits.close()

    @property
    def healthy(self) -> bool:
        """Whether its runtime has shown that it can load the handler."""
        return self.state in (State.READY, State.BUSY)

    @property
    def starting_well(self) -> bool:
        """Whether its runtime may still come up at the first try."""
        return self.state is State.STARTING and self._failed_starts == 0

    @property
    def can_take(self) -> bool:
        """Whether its runtime waits for a task."""
        return self._parked is not None

    @property
    def usable(self) -> bool:
        """Whether tasks that are taken for it will be run soon, or fail soon because it cannot start."""
        return self._launcher.own or self.healthy or self._init_error is not None

    @property
    def takes_batches(self) -> bool:
        """Whether it may be given many tasks at a time now."""
        return self._parked is not None and self._parked.takes_batches

    @property
    def seconds_at_task(self) -> float:
        """How long it has been with the task that it runs, as far as is known here."""
        return time.monotonic() - self._began if self._batch else 0.0

    def give(self, batch: Batch) -> None:
        """Run the tasks of a batch. The worker must be ready, and take batches if there is more than one."""
        if self._parked is None:
            raise RuntimeError(f"worker {self.number} was given a task while {self.state.name}")
        connection, self._parked = self._parked, None
        self.state = State.BUSY
        self._batch = batch
        self._began = time.monotonic()
        self._watch(batch)
        if self._running:
            ids = {"session": batch.session_id, "chunk": batch.chunk, "attempt": batch.attempt}
            self._running.tasks_begin(ids, len(batch.tasks))
        if connection.takes_batches:
            self._permits.give(len(batch.tasks))
        else:
            self._request_id = str(uuid.uuid4())
        connection.invoke(batch, self._request_id, self._clock() + batch.timeout_seconds * 1000)

    def take_back(self, batch: Batch) -> None:
        """Return the tasks of a batch that have not been begun to their owner."""
        if self._batch is batch and len(batch.tasks) > 1:
            self._return_last(self._permits.take_back(len(batch.tasks) - 1))

    def give_up(self, batch: Batch) -> None:
        """Stop the tasks of a batch and forget them. The runtime is killed and replaced."""
        if self._batch is batch:
            self._batch = None
            self._kill()

    # --- what the runtime says ---

    def connected(self, connection: RuntimeConnection) -> None:
        """See `Runtime`."""
        self._connections.add(connection)
        self._disconnected.clear()
        if self._running or not self._launcher.own:
            self._admit(connection)
        # Else a quick runtime has connected before its process is known here, and is admitted when it is.

    def wants_task(self, connection: RuntimeConnection) -> None:
        """See `Runtime`."""
        if self.state is State.DOWN:
            connection.abort()
            return
        if self._running:
            self._running.met()
        self._stop_timer()
        if self._batch:
            self._end(Failed(FailureKind.CRASH, "Runtime.NoResponse", "The runtime went on without answering."))
            self._return_all()
        self._parked = connection
        self._failed_starts = 0
        self._init_error = None
        self.state = State.READY
        self._note_usable()
        self._owner.ready(self)

    def answered(self, request_id: str, body: bytes, size: int) -> None:
        """See `Runtime`."""
        if self._is_current(request_id):
            self._end(self._result(body, size))

    def reported(self, request_id: str, body: bytes) -> None:
        """See `Runtime`."""
        if self._is_current(request_id):
            self._end(handler_failure(body))

    def told(self, frame: Frame) -> None:
        """See `Runtime`."""
        end = self._result(frame.body, frame.size) if frame.kind == RESULT else handler_failure(frame.body)
        self._end(end, frame.seconds)

    def could_not_start(self, body: bytes) -> None:
        """See `Runtime`."""
        self._init_error = handler_failure(body, FailureKind.INIT)

    def disconnected(self, connection: RuntimeConnection) -> None:
        """See `Runtime`."""
        self._connections.discard(connection)
        if not self._connections:
            self._disconnected.set()
        if self._parked is connection:
            # The process is about to end: nothing must be given to it any more.
            self._parked = None
            self.state = State.DOWN
            self._note_usable()
        elif self._batch and self._running:
            self._running.lost_touch()

    # --- the process ---

    def _connect(self) -> RuntimeConnection:
        return RuntimeConnection(self, self._arn)

    def _admit(self, connection: RuntimeConnection) -> None:
        """Serve a connection of the runtime; close one of another process without an answer."""
        if not self._launcher.own:
            connection.admit()
            return
        peer = connection.peer
        if self._running and self._running.owns(peer):
            connection.admit()
            return
        if not self.refused_connections:
            who = f"process {peer.process} of user {peer.user}" if peer else "a process that cannot be found"
            _LOG.warning(
                "the Runtime API of a worker refuses %s, which does not belong to it; this is said once",
                who,
                extra={"worker": self.number},
            )
        self.refused_connections += 1
        connection.abort()

    def _keep(self) -> None:
        self._keeping = asyncio.create_task(self._keep_running())
        self._keeping.add_done_callback(self._keeper_ended)

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        """Whatever ended the keeper, the worker is kept on: a task that nobody watches would never end."""
        if keeper is not self._keeping or (self._retired and not keeper.cancelled() and keeper.exception() is None):
            return
        error = None if keeper.cancelled() else keeper.exception()
        _LOG.error("the keeper of a worker ended: it is replaced", exc_info=error, extra={"worker": self.number})
        self._failed_starts += 1
        self._keep()
        self._exited(Exit(None))

    async def _keep_running(self) -> None:
        if self._failed_starts:
            await self._pause()
        while not self._retired:
            try:
                await self._run_once()
            except OSError as error:
                self._failed_starts += 1
                self._owner.broken(self, Failed(FailureKind.INIT, "Runtime.StartError", str(error)))
            if self._failed_starts:
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(_BACKOFF.wait(self._failed_starts, random.random).total_seconds())

    async def _run_once(self) -> None:
        self._at_fault = True
        # A quick runtime asks for its first task before its launch is known here.
        self.state = State.STARTING
        self._permits.close()
        self._permits = Permits()
        self._running = await self._launcher.launch(self.number, self._address, self._permits)
        try:
            for connection in list(self._connections):
                self._admit(connection)
            if self.state is not State.STARTING:
                self._running.met()
            elif self._launcher.own:
                self._timer = asyncio.get_running_loop().call_later(self._init_timeout, self._init_timed_out)
            end = await self._running.ended()
            # What it said last is read before it is asked which task was its end.
            await self._read_to_the_end()
        finally:
            self._stop_timer()
            self._running.kill()
            self._running = None
        self._exited(end)

    async def _read_to_the_end(self) -> None:
        # A process that the handler started may hold the connection open. Not wait_for: see `WorkerProcess.ended`.
        reading = asyncio.create_task(self._disconnected.wait())
        try:
            await asyncio.wait({reading}, timeout=_CLOSING_SECONDS)
        finally:
            reading.cancel()

    def _exited(self, end: Exit) -> None:
        how = _how(end.code)
        if self._batch:
            crash = Failed(
                FailureKind.CRASH, "Runtime.ExitError", f"The worker ended with {how}.", tuple(end.last_words)
            )
            self._down()
            self._end(crash)
            self._return_all()
        elif self.state is State.STARTING:
            self._failed_starts += 1
            failure = self._init_error or Failed(
                FailureKind.INIT,
                "Runtime.ExitError",
                f"The worker ended with {how} before its first task.",
                tuple(end.last_words),
            )
            _LOG.warning("the runtime did not start: %.100s", failure.type, extra={"worker": self.number})
            self._init_error = failure
            self._down()
            self._owner.broken(self, failure)
        else:
            if self._at_fault:
                _LOG.warning("the runtime ended with %s between tasks", how, extra={"worker": self.number})
            self._down()

    def _init_timed_out(self) -> None:
        self._init_error = Failed(
            FailureKind.INIT, "Sandbox.Timedout", f"The handler was not loaded within {self._init_timeout:.0f} s."
        )
        # Still starting, so that its end counts as a failed start.
        if self._running:
            self._running.kill()

    def _watch(self, batch: Batch, first: bool = True) -> None:
        """Look after the runtime when the task that it runs now must have ended; again a little later if it has not."""
        wait = max(0.0, self._began + batch.timeout_seconds - time.monotonic()) if first else _SECOND_LOOK
        self._timer = asyncio.get_running_loop().call_later(wait, self._look, batch, self._began, first)

    def _look(self, batch: Batch, began: float, first: bool) -> None:
        if self._began != began:
            self._watch(batch)
        elif first:
            self._watch(batch, first=False)
        else:
            self._timed_out(batch)

    def _timed_out(self, batch: Batch) -> None:
        if self._batch is batch:
            seconds = batch.timeout_seconds
            self._end(Failed(FailureKind.TIMEOUT, "Sandbox.Timedout", f"The task ran longer than {seconds} s."))
        else:
            _LOG.warning("the runtime answered and does not go on: it is killed", extra={"worker": self.number})
        self._kill()
        self._return_all()

    def _kill(self) -> None:
        self._at_fault = False
        if self._running:
            self._running.kill()
        self._down()

    def _down(self) -> None:
        self.state = State.DOWN
        self._parked = None
        self._stop_timer()
        for connection in list(self._connections):
            connection.abort()
        self._note_usable()

    def _note_usable(self) -> None:
        if self.usable is not self._was_usable:
            self._was_usable = self.usable
            self._owner.changed()

    def _result(self, body: bytes, size: int) -> TaskEnd:
        if size != len(body):
            return too_large(size)
        return completed_with_text(body) if self._launcher.answers_text else completed_or_failed(body)

    def _is_current(self, request_id: str) -> bool:
        return self._batch is not None and self._request_id == request_id

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _end(self, end: TaskEnd, seconds: float | None = None) -> None:
        batch = self._batch
        if batch is None:
            return
        now = time.monotonic()
        task = batch.tasks.popleft()
        if not batch.tasks:
            self._batch = None
        if seconds is None:
            seconds = now - self._began
        self._began = now
        batch.owner.task_ended(batch, task, end, seconds)

    def _return_all(self) -> None:
        if self._batch:
            self._return_last(len(self._batch.tasks))

    def _return_last(self, count: int) -> None:
        batch = self._batch
        if batch is None or not count:
            return
        tasks = [batch.tasks.pop() for _ in range(count)]
        if not batch.tasks:
            self._batch = None
        batch.owner.tasks_returned(batch, tasks[::-1])


def _how(code: int | None) -> str:
    if code is None:
        return "no word of why"
    if code < 0:
        return f"signal {_NAMES.get(-code, -code)}"
    return f"exit code {code}"
