"""Answers the probes of Kubernetes."""

import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Health:
    """Answers `/live` on a port: 200 as long as rounds end."""

    def __init__(
        self, host: str, port: int, most_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """A round that takes longer than `most_seconds` hangs.

        Raises:
            OSError: the port is taken.
        """
        last_round = monotonic()

        def beat() -> None:
            nonlocal last_round
            last_round = monotonic()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                alive = self.path == "/live" and monotonic() - last_round < most_seconds
                self.send_response_only(HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE)
                self.send_header("content-length", "0")
                self.end_headers()

        self.beat = beat
        """Call it after each round."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._server = Server((host, port), Handler)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
