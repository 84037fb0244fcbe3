"""Stands where the management API of the WebSocket API answers, and keeps what was posted to each connection."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

from htcgrid_events import PUSH_FRAME, ChunksFrame, PongFrame, SessionEndedFrame

Frame = ChunksFrame | SessionEndedFrame | PongFrame


class PushServer:
    """Takes messages for any connection but those that are gone or failing."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.failing: dict[str, HTTPStatus] = {}
        self.frames: defaultdict[str, list[Frame]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                connection = unquote(self.path).rpartition("/")[2]
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = HTTPStatus.GONE if connection in server.gone else server.failing.get(connection, HTTPStatus.OK)
                if status is HTTPStatus.OK:
                    server.frames[connection].append(PUSH_FRAME.validate_json(body))
                self.send_response(status)
                if status is HTTPStatus.GONE:
                    self.send_header("x-amzn-ErrorType", "GoneException")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
                """Nobody reads it."""

        return Handler


@contextmanager
def push_server() -> Iterator[PushServer]:
    server = PushServer()
    thread = Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        thread.join()
        server._server.server_close()
