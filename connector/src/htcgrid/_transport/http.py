"""HTTP requests that are repeated until they are answered or a time limit has passed."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from htcgrid._aio.backoff import RetryDelay
from htcgrid._aio.process import OwnProcess
from htcgrid.errors import GridClosed, GridError, GridUnavailable, GridUnreachable
from htcgrid_events import ErrorBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from htcgrid.profile import Profile

_TOO_MANY_REQUESTS = 429
REPEATED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that say "not now". Every request of the connector may be repeated, since its ids are made here."""

_KEPT_HEADERS = ("retry-after", "etag")
_CONNECT_SECONDS = 5.0
_LONG_WAIT_SECONDS = 3.0
"""A program that stands still for longer says why, once for each request."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried, and how."""

    limit: timedelta = timedelta(seconds=60)
    """Time from its first attempt after which a request is given up. Default: one minute."""
    attempt: timedelta = timedelta(seconds=30)
    """Longest wait for one answer: API Gateway itself gives up after 30 s. Default: 30 seconds."""
    backoff: RetryDelay = field(default_factory=lambda: RetryDelay(timedelta(milliseconds=100), timedelta(seconds=5)))
    """Between attempts, unless the grid says how long to wait."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Http:
    """A pool of connections to the grid."""

    def __init__(self, patience: Patience, *, trust_environment: bool = True, hint: str = "") -> None:
        """`hint` ends the sentence that tells that nothing answers."""
        logging.getLogger("httpx").addFilter(_without_queries)
        self._patience = patience
        self._hint = f"; {hint}" if hint else ""
        self._process = OwnProcess()
        self.closed = False
        """Whether requests are refused here, since the grid was closed."""
        self._client = httpx.AsyncClient(
            # The default of 5 s would open a new connection for almost every call of an interactive user.
            limits=httpx.Limits(max_connections=32, keepalive_expiry=55.0),
            trust_env=trust_environment,
            verify=tls_context(),
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: "Mapping[str, str] | None" = None,
        content: bytes | None = None,
        max_bytes: int | None = None,
        repeat_if: Callable[[httpx.Response], bool] = lambda response: response.status_code in REPEATED,
    ) -> httpx.Response:
        """The answer to a request, whatever its status, unless it says "not now".

        With `max_bytes` it is as it came, without any decoding, and of one that has more only the beginning.

        Raises:
            GridUnreachable: nothing answered within the time limit.
            GridUnavailable: the grid said "not now" until the time limit.
            GridClosed: the grid was closed, or this process was forked after it was connected.
        """
        self._process.check()  # the connections are the other process's
        patience = self._patience
        ends = patience.clock() + patience.limit.total_seconds()
        failures = 0
        told = False
        while True:
            if self.closed:
                raise GridClosed
            failure: GridError
            wait = 0.0
            try:
                left = max(0.1, min(patience.attempt.total_seconds(), ends - patience.clock()))
                timeout = httpx.Timeout(left, connect=min(left, _CONNECT_SECONDS), pool=None)
                request = self._client.build_request(method, url, headers=headers, content=content, timeout=timeout)
                response = await self._answer(request, max_bytes)
            except httpx.RequestError as error:
                what = f"the grid cannot be reached at {_place(url)}: {_reason(error)}"
                failure = GridUnreachable(what + self._hint)
            else:
                if not repeat_if(response):
                    return response
                what = f"the grid answered {response.status_code} to every attempt at {method} {_place(url)}"
                reason = _reason_of(response)
                failure = GridUnavailable(f"{what}: {reason or 'try again later'}")
                wait = _asked_wait(response)
                if wait >= _LONG_WAIT_SECONDS and not told:
                    told = True
                    said = reason or f"the grid answered {response.status_code}."
                    _log.warning("%s %s is sent again in %.0f s: %s", method, _place(url), wait, said)
            failures += 1
            wait = max(wait, patience.backoff.seconds(failures))
            if patience.clock() + wait > ends:
                raise failure
            await patience.sleep(wait)

    async def _answer(self, request: httpx.Request, max_bytes: int | None) -> httpx.Response:
        if max_bytes is None:
            return await self._client.send(request)
        answer = await self._client.send(request, stream=True)
        try:
            content = BytesIO()  # gives its bytes without a copy of them
            async for part in answer.aiter_raw():
                content.write(part)
                if content.tell() > max_bytes:
                    break
        finally:
            await answer.aclose()
        # Without most of its headers, which may tell httpx to decompress it.
        kept = {name: value for name in _KEPT_HEADERS if (value := answer.headers.get(name))}
        return httpx.Response(answer.status_code, headers=kept, content=content.getvalue(), request=request)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@cache
def _certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Whom to trust. Read once, since that takes longer than all else when a grid is connected.

    `_file` and `_folder` are those that httpx takes from the environment.
    """
    return httpx.create_ssl_context()


def tls_context() -> ssl.SSLContext:
    """Whom every connection to the grid trusts: the certificates in $SSL_CERT_FILE or $SSL_CERT_DIR, else certifi's.

    Raises:
        GridUnreachable: the variable names what cannot be read.
    """
    try:
        return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise GridUnreachable(f"the certificates that SSL_CERT_FILE names cannot be read: {error}") from error


def unencrypted(profile: "Profile") -> list[str]:
    """The profile's addresses of other machines that are reached without TLS."""
    urls = (profile.api_url, profile.push_url, profile.aws_endpoint_url)
    return [url for url in urls if url and not url.startswith(("https:", "wss:")) and not is_loopback(url)]


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine, so that no proxy of the environment can stand between."""
    return urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}


def _place(url: str) -> str:
    # Without the query: that of a presigned URL is a secret.
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _reason(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__


def _reason_of(response: httpx.Response) -> str:
    """What the grid says of a limit that was reached; empty if API Gateway answered in its place."""
    if response.status_code != _TOO_MANY_REQUESTS:
        return ""
    try:
        return ErrorBody.model_validate_json(response.content).message
    except ValidationError:
        return ""


def _asked_wait(response: httpx.Response) -> float:
    """Seconds of `Retry-After`; its other form, a date, is left to the backoff."""
    asked = response.headers.get("retry-after", "")
    return float(asked) if asked.isdecimal() else 0.0


def _without_queries(record: logging.LogRecord) -> bool:
    """Keep the signatures of presigned URLs out of what httpx logs of each request."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            _place(str(value)) if isinstance(value, httpx.URL) and value.query else value for value in record.args
        )
    return True
