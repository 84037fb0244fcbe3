"""A grid that speaks the API's contract over real sockets, with faults on request. It runs tasks when it is told to."""

import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from htcgrid import Profile
from htcgrid_dataplane import decode_lines, encode_lines
from htcgrid_events import (
    BUCKET_SIZE,
    Account,
    AddChunks,
    ChunkInput,
    ChunkOutcome,
    ChunksFrame,
    Contract,
    CreateSession,
    ErrorBody,
    OutcomePage,
    PongFrame,
    PushTicket,
    SessionAccepted,
    SessionEndedFrame,
    SessionOptions,
    SessionState,
    SessionStatus,
    Stages,
    StopReason,
    TaskError,
    TaskRecord,
    TaskState,
    Totals,
    UploadPlaces,
    UploadRequest,
    new_id,
)

USER, PASSWORD = "ada", "right-Horse-7"
Handler = Callable[[object], object]


class Failing(Exception):
    """Raised by a handler of these tests to make its task fail."""


@dataclass
class StubSession:
    options: SessionOptions
    chunks: dict[int, ChunkInput] = field(default_factory=dict)
    outcomes: dict[int, ChunkOutcome] = field(default_factory=dict)
    totals: Totals | None = None
    subscribers: set[str] = field(default_factory=set)
    cancelled: bool = False
    state: SessionState = SessionState.OPEN

    def account(self) -> Account:
        codes = Counter("".join(outcome.outcomes for outcome in self.outcomes.values()))
        submitted = sum(chunk.size for chunk in self.chunks.values())
        never_run = submitted - codes.total() if self.state is SessionState.CANCELLED else 0
        return Account(submitted=submitted, completed=codes["C"], failed=codes["F"], cancelled=codes["X"] + never_run)


@dataclass
class Answer:
    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class StubGrid:
    """Use it as a context manager. All methods may be called from any thread."""

    def __init__(self, handler: Handler | None = None, *, push: bool = True, inline: bool = True) -> None:
        self.handler = handler
        """Run at once on every task that is submitted; when there is none, `run` does it."""
        self.inline = inline
        """Whether results travel in outcomes; else they are stored and fetched by URL."""
        self.page_size = 50
        self.losing_pushes = False
        """Whether pushes are lost on their way."""
        self.slim_pushes = False
        """Whether pushes leave out results, as those that do not fit into a frame."""
        self.deaf = False
        """Whether pings go unanswered."""
        self.keep_open = False
        """Whether sessions get no verdict."""
        self.forgetful = False
        """Whether inputs are forgotten as soon as they have come."""
        self.pings = 0
        self.faults: dict[str, deque[Answer]] = {}
        """Answers given first to requests whose "METHOD /path" matches the pattern; an answer of status 0 hangs up."""
        self.requests: list[str] = []
        self.largest_request = 0
        self.signed_in = 0
        self.refreshed = 0
        self.token_seconds = 3600
        self.sessions: dict[str, StubSession] = {}
        self.payloads: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._tokens: set[str] = set()
        self._tickets: dict[str, str] = {}
        self._connections: dict[str, ServerConnection] = {}
        self.connections_opened = 0
        self._opening: set[str] = set()
        self._push: Server | None = None
        if push:
            self._push = serve(self._serve_push, "127.0.0.1", 0, process_request=self._accept_push)
        self._http = _HttpServer(self)
        self._threads = [threading.Thread(target=self._http.serve_forever, args=(0.01,))]
        if self._push is not None:
            self._threads.append(threading.Thread(target=self._push.serve_forever))

    def __enter__(self) -> "StubGrid":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        if self._push is not None:
            self.drop_connections()
            self._push.shutdown()
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def profile(self, **changes: object) -> Profile:
        push_port = self._push.socket.getsockname()[1] if self._push is not None else 1
        values: dict[str, object] = {
            "api_url": f"{self.url}/api",
            "push_url": f"http://127.0.0.1:{push_port}/push",
            "region": "eu-west-1",
            "user_pool_client_id": "client",
            "aws_endpoint_url": self.url,
            "username": USER,
            "password": PASSWORD,
        }
        return Profile.model_validate(values | changes)

    def count(self, pattern: str) -> int:
        """How many requests matched."""
        with self.lock:
            return sum(1 for request in self.requests if re.search(pattern, request))

    def fail(self, pattern: str, *answers: Answer) -> None:
        with self.lock:
            self.faults.setdefault(pattern, deque()).extend(answers)

    def expire_tokens(self) -> None:
        with self.lock:
            self._tokens.clear()

    def drop_connections(self) -> None:
        """Break the push connections, as a network does."""
        with self.lock:
            connections = list(self._connections.values())
            self._connections.clear()
        for connection in connections:
            connection.close(code=1012)

    def wait_for(self, met: Callable[[], bool], timeout: float = 20.0) -> None:
        with self.changed:
            assert self.changed.wait_for(met, timeout)

    @property
    def connected(self) -> bool:
        return bool(self._connections)

    # --- running tasks ---

    def run(self, session_id: str, handler: Handler, chunks: list[int] | None = None, *, repeat: int = 1) -> None:
        """Run some chunks of a session, all open ones by default, and push their outcomes."""
        with self.lock:
            session = self.sessions[session_id]
            numbers = [n for n in sorted(session.chunks) if n not in session.outcomes] if chunks is None else chunks
            outcomes = []
            for number in numbers:
                if number not in session.outcomes:
                    session.outcomes[number] = self._outcome(session_id, session.chunks[number], handler)
                outcomes.append(session.outcomes[number])
            subscribers = set(session.subscribers)
        for outcome in outcomes:
            slim = outcome.model_copy(update={"url": None})
            if self.slim_pushes and outcome.results is not None:
                slim = slim.model_copy(update={"results": None, "stored_bytes": len(outcome.results)})
            for _ in range(repeat):
                self.push(subscribers, ChunksFrame(session_id=session_id, outcomes=(slim,)))
        self._end_if_done(session_id)

    def push(self, subscribers: set[str], frame: Contract) -> None:
        if self.losing_pushes:
            return
        with self.changed:
            self.changed.wait_for(lambda: not subscribers & self._opening, 20)
            connections = [self._connections[name] for name in subscribers if name in self._connections]
        for connection in connections:
            with suppress(ConnectionClosed):
                connection.send(frame.model_dump_json(exclude_none=True))

    def _outcome(self, session_id: str, chunk: ChunkInput, handler: Handler) -> ChunkOutcome:
        data = chunk.inputs if chunk.inputs is not None else self.payloads[f"/in/{session_id}/{chunk.chunk}"]
        codes, lines = "", []
        for index, line in enumerate(decode_lines(data, chunk.size), chunk.first_task):
            try:
                lines.append(json.dumps(handler(json.loads(line))).encode())
                codes += "C"
            except Failing as error:
                told = TaskError(
                    kind="handler",
                    type="ValueError",
                    message=str(error),
                    trace=(f"line of task {index}",),
                    attempts=3,
                    agent="agent-1",
                )
                lines.append(told.model_dump_json().encode())
                codes += "F"
        results = encode_lines(lines)
        place: dict[str, object] = {"results": results}
        if not self.inline:
            path = f"/out/{session_id}/{chunk.chunk}"
            self.payloads[path] = results
            place = {"stored_bytes": len(results), "url": f"{self.url}{path}?X-Amz-Signature=secret"}
        return ChunkOutcome.model_validate(
            {
                "chunk": chunk.chunk,
                "first_task": chunk.first_task,
                "outcomes": codes,
                "attempt": 1,
                "agent": "agent-1",
                "stages": Stages(submitted_at=1, queued_at=2, claimed_at=3, started_at=4, finished_at=5),
                **place,
            }
        )

    def _end_if_done(self, session_id: str) -> None:
        with self.changed:
            session = self.sessions[session_id]
            self.changed.notify_all()
            if session.state.ended or session.totals is None or self.keep_open:
                return
            if not session.cancelled and len(session.outcomes) < session.totals.chunks:
                return
            account = session.account()
            session.state = SessionState.FAILED if account.failed else SessionState.COMPLETED
            if session.cancelled:
                session.state = SessionState.CANCELLED
            frame = SessionEndedFrame(session_id=session_id, state=session.state, account=session.account(), ended_at=9)
            subscribers = set(session.subscribers)
        self.push(subscribers, frame)

    # --- the API ---

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        url = urlsplit(target)
        with self.changed:
            self.requests.append(f"{method} {target}")
            self.largest_request = max(self.largest_request, len(body))
            self.changed.notify_all()
            for pattern, answers in self.faults.items():
                if answers and re.search(pattern, f"{method} {target}"):
                    return answers.popleft()
            if "x-amz-target" in headers:
                return self._initiate_auth(json.loads(body))
            if not url.path.startswith("/api/"):
                return self._payload(method, url.path, body)
            if headers.get("authorization", "").removeprefix("Bearer ") not in self._tokens:
                return Answer(401, b'{"message":"Unauthorized"}')
            answer, session_id = self._route(method, url.path.removeprefix("/api"), parse_qs(url.query), body)
        if session_id is not None:
            if self.handler is not None:
                self.run(session_id, self.handler)
            self._end_if_done(session_id)
        return answer

    def _initiate_auth(self, request: dict[str, object]) -> Answer:
        given = request["AuthParameters"]
        assert isinstance(given, dict)
        if request["AuthFlow"] == "REFRESH_TOKEN_AUTH" and given["REFRESH_TOKEN"] == "refresh":
            self.refreshed += 1
        elif given.get("USERNAME") == USER and given.get("PASSWORD") == PASSWORD:
            self.signed_in += 1
        else:
            body = {"__type": "NotAuthorizedException", "message": "Incorrect username or password."}
            return Answer(400, json.dumps(body).encode())
        token = f"token-{self.signed_in}-{self.refreshed}"
        self._tokens.add(token)
        result = {"IdToken": token, "ExpiresIn": self.token_seconds, "RefreshToken": "refresh"}
        return Answer(200, json.dumps({"AuthenticationResult": result}).encode())

    def _payload(self, method: str, path: str, body: bytes) -> Answer:
        if method == "PUT":
            self.payloads[path] = b"" if self.forgetful else body
        return Answer(200, self.payloads[path]) if path in self.payloads else Answer(404, b"NoSuchKey")

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[Answer, str | None]:
        parts = path.strip("/").split("/")
        match method, parts:
            case "PUT", ["subscribers", subscriber]:
                return _ok(self.issue_ticket(subscriber)), None
            case "PUT", ["sessions", session_id]:
                request = CreateSession.model_validate_json(body)
                session = self.sessions.setdefault(session_id, StubSession(request.options))
                if request.subscriber_id:
                    session.subscribers.add(request.subscriber_id)
                return self._add(session_id, request), session_id
            case "POST", ["sessions", session_id, "uploads"]:
                wanted = UploadRequest.model_validate_json(body).chunks
                urls = {n: f"{self.url}/in/{session_id}/{n}?X-Amz-Signature=secret" for n in wanted}
                return _ok(UploadPlaces(urls=urls, headers={"Content-Type": "application/zlib"})), None
            case _, ["sessions", session_id, *_] if session_id not in self.sessions:
                return _error(404, "SessionNotFound"), None
            case "POST", ["sessions", session_id, "chunks"]:
                return self._add(session_id, AddChunks.model_validate_json(body)), session_id
            case "POST", ["sessions", session_id, "cancel"]:
                self.sessions[session_id].cancelled = True
                self.sessions[session_id].totals = Totals(chunks=len(self.sessions[session_id].chunks), tasks=1)
                return _ok(self._status(session_id), 202), session_id
            case "PUT", ["sessions", session_id, "subscribers", subscriber]:
                self.sessions[session_id].subscribers.add(subscriber)
                return _ok(self._status(session_id)), None
            case "GET", ["sessions", session_id]:
                return _ok(self._status(session_id)), None
            case "GET", ["sessions", session_id, "buckets", bucket, "outcomes"]:
                return _ok(self._page(session_id, int(bucket), int(query.get("after", ["-1"])[0]))), None
            case "GET", ["sessions", session_id, "tasks", index]:
                return self._task(session_id, int(index)), None
        return _error(404, "NoSuchPath"), None

    def _add(self, session_id: str, request: AddChunks) -> Answer:
        session = self.sessions[session_id]
        for chunk in request.chunks:
            kept = chunk.model_copy(update={"inputs": b""}) if self.forgetful else chunk
            session.chunks.setdefault(chunk.chunk, kept)
        if request.totals is not None:
            assert len(session.chunks) == request.totals.chunks
            session.totals = request.totals
            if session.state is SessionState.OPEN:
                session.state = SessionState.RUNNING
        return _ok(SessionAccepted(session_id=session_id, state=session.state, deadline_at=2))

    def _status(self, session_id: str) -> SessionStatus:
        session = self.sessions[session_id]
        return SessionStatus(
            session_id=session_id,
            state=session.state,
            options=session.options,
            account=session.account(),
            chunks=session.totals.chunks if session.totals else len(session.chunks),
            created_at=1,
            deadline_at=2,
            stop_reason=StopReason.CANCELLED if session.cancelled else None,
        )

    def _page(self, session_id: str, bucket: int, after: int) -> OutcomePage:
        outcomes = self.sessions[session_id].outcomes
        last = (bucket + 1) * BUCKET_SIZE
        numbers = [n for n in sorted(outcomes) if max(after + 1, bucket * BUCKET_SIZE) <= n < last]
        page = numbers[: self.page_size]
        following = page[-1] if len(numbers) > len(page) else None
        return OutcomePage(outcomes=tuple(outcomes[n] for n in page), next_after=following)

    def _task(self, session_id: str, index: int) -> Answer:
        for chunk in self.sessions[session_id].chunks.values():
            if chunk.first_task <= index < chunk.first_task + chunk.size:
                record = TaskRecord(
                    session_id=session_id,
                    task_id=f"{session_id}_{index}",
                    index=index,
                    state=TaskState.QUEUED,
                    chunk=chunk.chunk,
                    owner=None,
                    attempts=0,
                    retries=0,
                    options=self.sessions[session_id].options,
                    message_handle=None,
                    lease_expires_at=None,
                    stages=Stages(),
                )
                return _ok(record)
        return _error(404, "TaskNotFound")

    # --- push ---

    def issue_ticket(self, subscriber: str) -> PushTicket:
        with self.lock:
            ticket = new_id()
            self._tickets[ticket] = subscriber
            return PushTicket(subscriber_id=subscriber, ticket=ticket, expires_at=0)

    def _accept_push(self, connection: ServerConnection, request: Request) -> Response | None:
        """As API Gateway does, count a connection as open before the client does."""
        ticket = parse_qs(urlsplit(request.path).query)["ticket"][0]
        with self.lock:
            if ticket not in self._tickets:
                return connection.respond(401, "no such ticket")
            self._opening.add(self._tickets[ticket])
        return None

    def _serve_push(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        ticket = parse_qs(urlsplit(connection.request.path).query)["ticket"][0]
        with self.changed:
            subscriber = self._tickets.pop(ticket)
            self._connections[subscriber] = connection
            self._opening.discard(subscriber)
            self.connections_opened += 1
            self.changed.notify_all()
        with suppress(ConnectionClosed):
            for _message in connection:
                with self.changed:
                    self.pings += 1
                    self.changed.notify_all()
                if not self.deaf:
                    connection.send(PongFrame().model_dump_json())


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, grid: StubGrid) -> None:
        self.grid = grid
        super().__init__(("127.0.0.1", 0), _HttpHandler)


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.grid.answer(self.command, self.path, headers, body)
        if answer.status == 0:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_PUT = do_POST = _handle  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _ok(body: Contract, status: int = 200) -> Answer:
    return Answer(status, body.model_dump_json().encode())


def _error(status: int, word: str) -> Answer:
    return Answer(status, ErrorBody(error=word, message=f"The grid says {word}.").model_dump_json().encode())
