"""A network between an agent and AWS that may fail in every way."""

import contextlib
import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ENDPOINTS = {"AmazonSQS": "AWS_ENDPOINT_URL_SQS", "DynamoDB_20120810": "AWS_ENDPOINT_URL_DYNAMODB"}
"""The variable that names a service's endpoint, by the first word of `x-amz-target`."""
_DELAY = 0.5
"""Seconds. This is what the network does, and nothing waits for it."""


class Fate(Enum):
    """What becomes of a request."""

    PASS = auto()
    DELAY = auto()
    """Passed on after a while, so that other requests overtake it."""
    DROP = auto()
    """The connection is closed before the request is passed on."""
    RESET = auto()
    """The connection is reset after the request was passed on: the answer is lost."""
    FAIL = auto()
    """Answered with 500, not passed on."""
    THROTTLE = auto()
    """Answered with a throttling error, not passed on."""


@dataclass(frozen=True)
class Request:
    """A request as the network sees it."""

    name: str
    """The operation; `Claim`, `Extend`, `Checkpoint`, `Finish` or `Retry` for writes of chunks."""
    service: str = ""
    """`dynamodb` or `sqs`; empty for services that do not speak JSON."""


Before = Callable[[Request], Fate]
After = Callable[[Request], None]


def always(request: Request) -> Fate:
    return Fate.PASS


def nothing(request: Request) -> None:
    return


class Network:
    """Asks `before` what becomes of each request, and tells `after` when AWS has answered."""

    def __init__(self, target: str, elsewhere: Mapping[str, str] | None = None) -> None:
        self._target = target
        self._elsewhere = elsewhere or {}
        self.before: Before = always
        self.after: After = nothing
        self.url = ""
        self.seen: list[Request] = []
        self.connections: set[socket.socket] = set()

    def host_of(self, target: str) -> str:
        """Where a request goes that has this `x-amz-target`."""
        variable = _ENDPOINTS.get(target.partition(".")[0], "")
        return urlsplit(self._elsewhere.get(variable, self._target)).netloc

    def cut(self) -> None:
        """Break all connections, those at long polls too, and let none be made until `before` is set anew."""
        self.before = lambda request: Fate.DROP
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def count(self, name: str) -> int:
        """How many requests of a name were made."""
        return sum(request.name == name for request in self.seen)


def flaky(rate: float, seed: int) -> Before:
    """Lets a share of the requests fail in all ways."""
    chance = random.Random(seed)
    lock = threading.Lock()

    def before(request: Request) -> Fate:
        with lock:
            if chance.random() >= rate:
                return Fate.PASS
            return chance.choice([Fate.DELAY, Fate.DROP, Fate.RESET, Fate.FAIL, Fate.THROTTLE])

    return before


@contextmanager
def network(target: str, elsewhere: Mapping[str, str] | None = None) -> Iterator[Network]:
    """A network in front of `target`, and of the services whose endpoint variables `elsewhere` has."""
    net = Network(target, elsewhere)
    handler = type("Handler", (_Handler,), {"net": net})
    with _Server(("127.0.0.1", 0), handler) as server:
        net.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield net
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """An agent that was killed leaves broken connections: that is what these tests are for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    net: Network

    def setup(self) -> None:
        super().setup()
        self.net.connections.add(self.connection)

    def finish(self) -> None:
        self.net.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("transfer-encoding") == "chunked":
            body = self._read_chunks()
        target = self.headers.get("x-amz-target", "")
        request = Request(_name(self.command, target, body), _service(target))
        self.net.seen.append(request)
        fate = self.net.before(request)
        if fate is Fate.DROP:
            self.close_connection = True
            return
        if fate is Fate.FAIL:
            self._answer(500, {}, b"<html>oh no</html>")
            return
        if fate is Fate.THROTTLE:
            error = {"__type": "com.amazonaws#ThrottlingException", "message": "slow down"}
            self._answer(400, {"content-type": "application/x-amz-json-1.0"}, json.dumps(error).encode())
            return
        if fate is Fate.DELAY:
            time.sleep(_DELAY)
        connection = http.client.HTTPConnection(self.net.host_of(target), timeout=30)
        own = ("transfer-encoding", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        headers["content-length"] = str(len(body))
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        self.net.after(request)
        if fate is Fate.RESET:
            # Closing with a linger of zero sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        kept = {n: v for n, v in response.getheaders() if n.lower() not in ("transfer-encoding", "content-length")}
        self._answer(response.status, kept, data)

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815


_SERVICES = {"DynamoDB": "dynamodb", "AmazonSQS": "sqs"}
_STATES = {"RUNNING": "Checkpoint", "FINISHED": "Finish", "RETRY": "Retry"}


def _service(target: str) -> str:
    return next((name for prefix, name in _SERVICES.items() if target.startswith(prefix)), "")


def _name(method: str, target: str, body: bytes) -> str:
    operation = target.rpartition(".")[2]
    if not operation:
        return {"PUT": "PutObject", "GET": "GetObject"}.get(method, method)
    if operation != "BatchExecuteStatement":
        return operation
    statement = str(json.loads(body)["Statements"][0]["Statement"])
    if "attempt + 1" in statement:
        return "Claim"
    state = re.search(r"SET state = '(\w+)'", statement)
    return _STATES[state[1]] if state else "Extend"
