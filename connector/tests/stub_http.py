"""HTTP over real sockets: requests go to a function, answers come from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from htcgrid_events import Contract, ErrorBody


@dataclass
class Answer:
    status: int
    """0 hangs up without an answer."""
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


def ok(body: Contract, status: int = 200) -> Answer:
    return Answer(status, body.model_dump_json().encode())


def refusal(status: int, word: str) -> Answer:
    return Answer(status, ErrorBody(error=word, message=f"The grid says {word}.").model_dump_json().encode())


Answering = Callable[[str, str, dict[str, str], bytes], Answer]
"""From a request's method, target, headers (by lower-case names) and body."""


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.answering(self.command, self.path, headers, body)
        if answer.status == 0:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
