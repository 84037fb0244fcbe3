"""The push side of a stub grid: WebSocket connections by ticket."""

import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from htcgrid_events import Contract, PongFrame, PushTicket, new_id


class StubPush:
    """Shares the stub grid's condition, which is notified of whatever happens."""

    def __init__(self, changed: threading.Condition, *, listening: bool) -> None:
        self.changed = changed
        self.deaf = False
        self.losing = False
        self.pings = 0
        self.opened = 0
        self.connections: dict[str, ServerConnection] = {}
        self._tickets: dict[str, str] = {}
        self._opening: set[str] = set()
        self.server: Server | None = None
        if listening:
            self.server = serve(self._serve, "127.0.0.1", 0, process_request=self._accept)

    @property
    def port(self) -> int:
        return int(self.server.socket.getsockname()[1]) if self.server is not None else 1

    def threads(self) -> list[threading.Thread]:
        serving: list[Callable[[], None]] = [] if self.server is None else [self.server.serve_forever]
        return [threading.Thread(target=serve) for serve in serving]

    def close(self) -> None:
        if self.server is not None:
            self.drop()
            self.server.shutdown()

    def opened_all(self) -> None:
        """Wait until every connection that a client holds to be open is so here."""
        with self.changed:
            assert self.changed.wait_for(lambda: not self._opening, 20)

    def drop(self) -> None:
        with self.changed:
            connections = list(self.connections.values())
            self.connections.clear()
        for connection in connections:
            connection.close(code=1012)

    def issue_ticket(self, subscriber: str) -> PushTicket:
        with self.changed:
            ticket = new_id()
            self._tickets[ticket] = subscriber
            return PushTicket(subscriber_id=subscriber, ticket=ticket, expires_at=0)

    def send(self, subscribers: set[str], frame: Contract) -> None:
        if self.losing:
            return
        with self.changed:
            self.changed.wait_for(lambda: not subscribers & self._opening, 20)
            connections = [self.connections[name] for name in subscribers if name in self.connections]
        for connection in connections:
            with suppress(ConnectionClosed):
                connection.send(frame.model_dump_json(exclude_none=True))

    def _accept(self, connection: ServerConnection, request: Request) -> Response | None:
        """As API Gateway does, count a connection as open before the client does."""
        ticket = parse_qs(urlsplit(request.path).query)["ticket"][0]
        with self.changed:
            if ticket not in self._tickets:
                return connection.respond(401, "no such ticket")
            self._opening.add(self._tickets[ticket])
        return None

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        ticket = parse_qs(urlsplit(connection.request.path).query)["ticket"][0]
        with self.changed:
            subscriber = self._tickets.pop(ticket)
            self.connections[subscriber] = connection
            self._opening.discard(subscriber)
            self.opened += 1
            self.changed.notify_all()
        with suppress(ConnectionClosed):
            for _message in connection:
                with self.changed:
                    self.pings += 1
                    self.changed.notify_all()
                if not self.deaf:
                    connection.send(PongFrame().model_dump_json())
