"""The connection by which the grid pushes: opened again whenever it breaks, kept from falling idle."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from htcgrid._aio.backoff import RetryDelay
from htcgrid._transport.http import is_loopback, tls_context
from htcgrid.errors import GridError
from htcgrid_events import PUSH_FRAME, ChunksFrame, PingFrame, PongFrame, SessionEndedFrame, new_id

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from htcgrid._transport.api import Api
    from htcgrid_events import SessionOptions, SessionStatus

_log = logging.getLogger(__name__)
# The handshake holds the ticket, which websockets would write to the log at level DEBUG.
_quiet = logging.getLogger(f"{__name__}.websocket")
_quiet.setLevel(logging.WARNING)

PING_EVERY = timedelta(minutes=5)
"""API Gateway closes a connection that was idle for 10 minutes."""
PONG_WITHIN = timedelta(seconds=20)
"""A connection that does not answer a ping for so long is dead, and is opened anew."""
OPEN_WITHIN = timedelta(seconds=5)
"""Longest wait for a connection to open."""
LARGEST_FRAME_BYTES = 1024 * 1024
"""API Gateway sends at most 128 KB; an embedded one might send more."""


class PushChannel:
    """A `Channel` by WebSocket, for one subscriber."""

    name = "websocket"

    def __init__(
        self,
        url: str,
        api: "Api",
        on_frame: Callable[[ChunksFrame | SessionEndedFrame], None],
        on_change: Callable[[], None],
        *,
        backoff: RetryDelay | None = None,
        ping_every: timedelta = PING_EVERY,
        pong_within: timedelta = PONG_WITHIN,
    ) -> None:
        self._url = _websocket_url(url)
        self._api = api
        self.subscriber_id = new_id()
        """Whom the grid pushes to."""
        self._on_frame = on_frame
        self._on_change = on_change
        self._backoff = backoff or RetryDelay(timedelta(seconds=1), timedelta(seconds=60))
        self._ping_every = ping_every.total_seconds()
        self._pong_within = pong_within.total_seconds()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self.fault = ""
        """Why there is no connection, if there is none."""
        self.epoch = 0
        """How many connections there have been. Frames may be lost between one and the next."""
        self.connected = False
        """Whether a connection is open now."""
        self.closed = False
        """Whether `close` was called."""
        self.known = False
        """Whether the grid has given a ticket, so that sessions may be created for this subscriber."""

    def new_session_id(self) -> str:
        """See `Channel.new_session_id`."""
        return new_id()

    def reaches(self, session_id: str) -> bool:
        """See `Channel.reaches`: any session can be subscribed to."""
        return bool(session_id)

    def creation(self, options: "SessionOptions") -> "tuple[SessionOptions, str | None, bool]":
        """See `Channel.creation`."""
        subscriber = self.subscriber_id if self.known else None
        return options, subscriber, subscriber is not None

    async def subscribe(self, session_id: str) -> "SessionStatus":
        """See `Channel.subscribe`."""
        return await self._api.subscribe(session_id, self.subscriber_id)

    def start(self) -> None:
        """Open the connection and keep it, in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="htcgrid push")
            self._task.add_done_callback(_tell_fault)

    async def tried(self) -> None:
        """Wait until the first attempt to connect has gone one way or the other."""
        await self._tried.wait()

    async def close(self) -> None:
        """Close the connection for good."""
        self.closed = True
        self._tried.set()
        self._on_change()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                await self._connect_once()
                failures = 0
                reason = "it was closed"
            except (GridError, WebSocketException, OSError) as error:
                failures = 1 if self.connected else failures + 1
                reason = str(error) or type(error).__name__
            finally:
                was_connected, self.connected = self.connected, False
            self._report(reason, was_connected=was_connected)
            self._tried.set()
            self._on_change()
            await asyncio.sleep(self._backoff.seconds(max(failures, 1)))

    def _report(self, reason: str, *, was_connected: bool) -> None:
        self.fault = reason
        if was_connected:
            _log.info("the push connection broke and is opened again: %s", reason)
        elif not self._warned:
            self._warned = True
            _log.warning("no push connection to the grid, so it is asked for results instead: %s", reason)

    async def _connect_once(self) -> None:
        try:
            async with asyncio.timeout(OPEN_WITHIN.total_seconds()):
                ticket = await self._api.push_ticket(self.subscriber_id)
        except TimeoutError:
            raise ConnectionError(f"the grid gave no ticket within {OPEN_WITHIN.total_seconds():g} s") from None
        self.known = True
        async with connect(
            f"{self._url}?ticket={ticket.ticket}",
            open_timeout=OPEN_WITHIN.total_seconds(),
            ping_interval=None,  # API Gateway counts only messages against its idle limit
            close_timeout=1,
            compression=None,  # payloads are compressed already
            max_size=LARGEST_FRAME_BYTES,
            logger=_quiet,
            proxy=None if is_loopback(self._url) else True,
            ssl=tls_context() if self._url.startswith("wss:") else None,
        ) as connection:
            self.epoch += 1
            self.connected = True
            _log.info("the grid pushes finished tasks over a WebSocket")
            self._tried.set()
            self._on_change()
            try:
                await self._receive(connection)
            finally:
                await connection.close()

    async def _receive(self, connection: "ClientConnection") -> None:
        ping_sent = False
        while True:
            try:
                async with asyncio.timeout(self._pong_within if ping_sent else self._ping_every):
                    data = await connection.recv()
            except TimeoutError:
                if ping_sent:
                    raise ConnectionError(f"no answer to a ping for {self._pong_within:g} s") from None
                await connection.send(PingFrame().model_dump_json())
                ping_sent = True
                continue
            ping_sent = False
            self._take(data)

    def _take(self, data: str | bytes) -> None:
        try:
            frame = PUSH_FRAME.validate_json(data)
        except ValidationError:
            # One frame that cannot be read is one frame lost: catching up makes good for it.
            _log.warning("the grid pushed a frame of %d bytes that this connector does not understand", len(data))
            return
        if not isinstance(frame, PongFrame):
            self._on_frame(frame)


def _tell_fault(task: asyncio.Task[None]) -> None:
    """What ends the keeping of the connection, other than `close`, is a fault of this module: asking goes on."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.error("no push connection is opened any more", exc_info=fault)


def _websocket_url(url: str) -> str:
    return "ws" + url.removeprefix("http") if url.startswith("http") else url
