"""Single tasks gathered into requests: what stands behind an executor."""

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from htcgrid._aio.process import OwnFuture
from htcgrid._follow.delivery import Futures
from htcgrid._submit.chunking import CHOSEN_CHUNK_BYTES
from htcgrid._submit.encoding import Encoder
from htcgrid._submit.json_line import json_line
from htcgrid._submit.packing import BATCH_CHUNKS, Packer, pack
from htcgrid.errors import GridClosed, GridError

if TYPE_CHECKING:
    from htcgrid._core.connection import Connection
    from htcgrid._submit.feed import Feed
    from htcgrid_events import SessionOptions

LONGEST_WAIT = timedelta(milliseconds=10)
"""How long a task waits for others to travel with."""

FULL = BATCH_CHUNKS
"""So many tasks do not wait for more, and travel in one request."""


class Gatherer:
    """Feeds one session with tasks that come one by one, from any thread. Each is a chunk, so that they run apart."""

    def __init__(self, connection: "Connection", options: "SessionOptions") -> None:
        self.session_id: str | None = None
        """None until the first tasks were sent."""
        self.fault: GridError | None = None
        """Why no more tasks are taken, if they are not."""
        self.futures: set[Future[Any]] = set()
        """Those that are not done."""
        self.closed = threading.Event()
        """Set when the session was closed, or cannot be any more."""
        self._connection = connection
        self._options = options
        self._encoder = Encoder()
        self._lock = threading.Lock()
        self._pending: deque[tuple[Future[Any], bytes]] = deque()
        self._sent: dict[int, Future[Any]] = {}
        self._taken = 0
        self._running = False
        self._closing = False
        self._full = asyncio.Event()
        self._feed: Feed | None = None

    def add(self, event: object) -> "Future[Any]":
        """Send an event soon. Raises `InvalidTask` when it is not JSON."""
        line = json_line(self._taken, event)  # type: ignore[arg-type]  # this is what it finds out
        future: Future[Any] = OwnFuture()
        with self._lock:
            self._taken += 1
            self.futures.add(future)
            self._pending.append((future, line))
            count = len(self._pending)
        future.add_done_callback(self.futures.discard)
        if count == 1:
            if not self._connection.post(self._run_soon):
                self._fail(GridClosed())
        elif count == FULL:
            self._connection.post(self._full.set)
        return future

    def cancel_pending(self) -> None:
        """Cancel what has not been sent."""
        with self._lock:
            pending, self._pending = self._pending, deque()
        for future, _ in pending:
            if future.cancel():
                future.set_running_or_notify_cancel()  # else `concurrent.futures.wait` would wait for it for ever

    def close(self) -> None:
        """Send what is pending and close the session, in the background."""
        self._closing = True
        self._connection.post(self._full.set)
        if not self._connection.post(self._run_soon):
            self._fail(GridClosed())

    # --- on the event loop ---

    def _run_soon(self) -> None:
        if not self._running:
            self._running = True
            task = asyncio.create_task(self._run(), name="htcgrid batching")
            self._connection.client.keep(task)
            task.add_done_callback(self._stopped)

    async def _run(self) -> None:
        """Send until nothing is left."""
        try:
            while self._pending:
                if len(self._pending) < FULL and not self._closing:
                    await self._more()
                await self._send(self._next())
            if self._closing:
                if self._feed is not None and self._feed.open:
                    await self._feed.close()
                self.closed.set()
        except GridError as error:
            if self._feed is not None:
                await self._feed.abandon(error, repeatable=False)
            self._fail(error)

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        self._running = False
        if task.cancelled():
            self._fail(GridClosed())
        elif self._pending:  # they came while the last ones were sent
            self._run_soon()

    def _next(self) -> "list[tuple[Future[Any], bytes]]":
        room = BATCH_CHUNKS - self._encoder.chunks % BATCH_CHUNKS  # a request never crosses the border of a bucket
        with self._lock:
            return [self._pending.popleft() for _ in range(min(room, len(self._pending)))]

    async def _more(self) -> None:
        self._full.clear()
        try:
            async with asyncio.timeout(LONGEST_WAIT.total_seconds()):
                await self._full.wait()
        except TimeoutError:
            return

    async def _send(self, tasks: "list[tuple[Future[Any], bytes]]") -> None:
        lines: list[bytes] = []
        for future, line in tasks:
            if future.set_running_or_notify_cancel():
                self._sent[self._encoder.tasks + len(lines)] = future
                lines.append(line)
        if not lines:
            return
        feed = self._feed or await self._open()
        feed.check_open()
        for batch in pack(lines, Packer(self._encoder, lambda _first: 1, CHOSEN_CHUNK_BYTES)):
            await feed.send(batch)
        await feed.flush()

    async def _open(self) -> "Feed":
        client = self._connection.client
        link, self._feed = await client.open(None, self._options, self._encoder)
        self.session_id = link.session_id
        await link.deliver(Futures(self._sent), self._connection.delivery.hand)
        return self._feed

    def _fail(self, error: GridError) -> None:
        """Nothing more can be sent: all futures fail."""
        self.fault = error
        self.closed.set()
        with self._lock:
            pending, self._pending = self._pending, deque()
        for future, _ in pending:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        Futures(self._sent).fail(error)
