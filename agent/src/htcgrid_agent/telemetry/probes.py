"""A small HTTP server for the probes of Kubernetes and for Prometheus."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

from htcgrid_agent.telemetry.metrics import CONTENT_TYPE

_MAX_REQUEST = 16 * 1024


@dataclass(frozen=True)
class Answer:
    """The answer to a GET request."""

    status: HTTPStatus
    text: str
    content_type: str = "text/plain; charset=utf-8"


def yes_or_no(problem: str | None) -> Answer:
    """200 if there is no problem, else 503 with the problem."""
    if problem is None:
        return Answer(HTTPStatus.OK, "yes\n")
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{problem}\n")


def metrics(text: str) -> Answer:
    """Metrics in the text format of Prometheus."""
    return Answer(HTTPStatus.OK, text, CONTENT_TYPE)


async def serve(host: str, port: int, answers: Mapping[str, Callable[[], Answer]]) -> asyncio.Server:
    """Answer GET requests by their path.

    Raises:
        OSError: the port is taken.
    """
    return await asyncio.get_running_loop().create_server(lambda: _Connection(answers), host, port)


class _Connection(asyncio.Protocol):
    def __init__(self, answers: Mapping[str, Callable[[], Answer]]) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._size = _MAX_REQUEST + 1
        if self._size > _MAX_REQUEST and self._transport:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        answer = self._answers.get(path, lambda: Answer(HTTPStatus.NOT_FOUND, "not found\n"))()
        body = answer.text.encode()
        head = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        if self._transport:
            self._transport.write(head.encode("latin-1") + body)
            self._transport.close()
