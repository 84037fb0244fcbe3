"""The Lambda Runtime API (version 2018-06-01), as one runtime sees it on the loopback.

`GET …/invocation/next` is parked until there is a task. `POST …/{id}/response` and `…/{id}/error` are always taken
with 202, since runtimes end themselves at anything else; what was wrong with them becomes the task's error.

A runtime that asks for `BATCHES` goes on with another protocol on the same connection: see `batch_api.py`.
"""

import asyncio
import base64
import binascii
import logging
from typing import Protocol, cast

import httptools

from htcgrid_agent.runtimes import python_runtime
from htcgrid_agent.runtimes.batch_protocol import (
    BATCHES,
    MAX_BODY,
    SWITCHING,
    Frame,
    FrameReader,
    client_context,
    encode_batch,
    trace_header,
)
from htcgrid_agent.runtimes.peer import Peer, find
from htcgrid_agent.work.task import Batch

_LOG = logging.getLogger(__name__)
_ROOT = b"/2018-06-01/runtime/"
_NEXT = _ROOT + b"invocation/next"
_INVOCATION = _ROOT + b"invocation/"
_INIT_ERROR = _ROOT + b"init/error"
_STREAM_ERROR = b"lambda-runtime-function-error-body"
"""Trails a streamed response whose handler failed in the middle: the error report in base64."""
_ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status": "OK"}'
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Runtime(Protocol):
    """What is behind a connection: told, in the event loop, what the runtime asks and answers."""

    def connected(self, connection: "RuntimeConnection") -> None:
        """There is a new connection. Nothing of it is read before it is admitted."""

    def wants_task(self, connection: "RuntimeConnection") -> None:
        """The runtime waits for a task on this connection."""

    def answered(self, request_id: str, body: bytes, size: int) -> None:
        """The handler returned. `body` is cut short if `size` is larger."""

    def reported(self, request_id: str, body: bytes) -> None:
        """The handler failed."""

    def told(self, frame: Frame) -> None:
        """The first task of the batch ended."""

    def could_not_start(self, body: bytes) -> None:
        """The runtime could not load the handler."""

    def disconnected(self, connection: "RuntimeConnection") -> None:
        """A connection was closed."""


class RuntimeConnection(asyncio.Protocol):
    """One connection of a runtime, which lasts as long as the runtime in most languages."""

    def __init__(self, runtime: Runtime, arn: str) -> None:
        self._runtime = runtime
        self._arn = arn
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._expects = False
        self._body: list[bytes] = []
        self._size = 0
        self._stream_error = b""
        self._frames: FrameReader | None = None
        self._admitted = False
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._runtime.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        self._runtime.disconnected(self)

    @property
    def peer(self) -> Peer | None:
        """The socket at the other end; none if it is closed already."""
        if self._transport is None:
            return None
        theirs, ours = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        return find(theirs, ours) if theirs else None

    def admit(self) -> None:
        """Serve the connection from now on."""
        if self._admitted:
            return
        self._admitted = True
        early, self._early = self._early, b""
        if early and self._transport:
            self._transport.resume_reading()
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._admitted:
            if self._transport and not self._transport.is_closing():
                self._early += data
                self._transport.pause_reading()
            return
        if self._frames:
            for frame in self._frames.feed(data):
                if frame.kind == python_runtime.READY:
                    self._runtime.wants_task(self)
                else:
                    self._runtime.told(frame)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Asked for and granted: nothing is sent before the answer has come.
            pass
        except httptools.HttpParserError as error:
            _LOG.warning("a runtime does not speak HTTP: %s", error)
            self.abort()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._url = b""
        self._expects = False
        self._body = []
        self._size = 0
        self._stream_error = b""

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for headers and for what trails a streamed body."""
        if len(name) == len(b"expect") and name.lower() == b"expect":
            self._expects = True
        elif len(name) == len(_STREAM_ERROR) and name.lower() == _STREAM_ERROR:
            self._stream_error = value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._expects:
            self._write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._size += len(body)
        if self._size <= MAX_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        url = self._url
        if url == _NEXT:
            self._runtime.wants_task(self)
            return
        if url == BATCHES:
            self._frames = FrameReader()
            self._write(SWITCHING)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if url == _INIT_ERROR:
            self._write(_ACCEPTED)
            self._runtime.could_not_start(body)
            return
        request_id, _, what = url.removeprefix(_INVOCATION).partition(b"/")
        if not url.startswith(_INVOCATION) or what not in (b"response", b"error"):
            self._write(_NOT_FOUND)
            return
        self._write(_ACCEPTED)
        if self._stream_error:
            self._runtime.reported(request_id.decode("latin-1"), _from_trailer(self._stream_error))
        elif what == b"response":
            self._runtime.answered(request_id.decode("latin-1"), body, self._size)
        else:
            self._runtime.reported(request_id.decode("latin-1"), body)

    @property
    def takes_batches(self) -> bool:
        """Whether the runtime can be given many tasks in one message."""
        return self._frames is not None

    def invoke(self, batch: Batch, request_id: str, deadline_ms: int) -> None:
        """Answer the parked request. A runtime that takes one task at a time is told its id and its end (ms)."""
        if self._frames:
            self._write(encode_batch(batch, self._arn))
        else:
            self._write(_head(batch, request_id, deadline_ms, self._arn) + batch.tasks[0].event)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)


def _from_trailer(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return value


def _head(batch: Batch, request_id: str, deadline_ms: int, arn: str) -> bytes:
    task = batch.tasks[0]
    return (
        "HTTP/1.1 200 OK\r\n"
        # Exactly so: with a charset, awslambdaric hands bytes to the handler.
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(task.event)}\r\n"
        f"Lambda-Runtime-Aws-Request-Id: {request_id}\r\n"
        f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
        f"Lambda-Runtime-Invoked-Function-Arn: {arn}\r\n"
        f"Lambda-Runtime-Trace-Id: {trace_header(batch)}\r\n"
        f"Lambda-Runtime-Client-Context: {client_context(batch, task.number)}\r\n\r\n"
    ).encode("latin-1")
