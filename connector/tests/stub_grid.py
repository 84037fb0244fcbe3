"""A grid that speaks the API's contract over real sockets, with faults on request. It runs tasks when it is told to."""

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from connector.tests.stub_api import StubApi
from connector.tests.stub_data import StubData
from connector.tests.stub_http import Answer, HttpServer
from connector.tests.stub_push import StubPush
from connector.tests.stub_relay import StubRelay
from connector.tests.stub_session import StubSession

from htcgrid import Profile
from htcgrid_dataplane import decode_lines, encode_lines
from htcgrid_events import (
    ChunkInput,
    ChunkOutcome,
    ChunksFrame,
    FailureKind,
    PartialOutcome,
    SessionEndedFrame,
    SessionState,
    Stages,
    StopReason,
)

__all__ = ["Answer", "Failing", "Retried", "StubGrid"]

USER, PASSWORD = "ada", "right-Horse-7"
Handler = Callable[[object], object]
_VERDICTS = {StopReason.CANCELLED: SessionState.CANCELLED, StopReason.TIMED_OUT: SessionState.TIMED_OUT}


class Failing(Exception):
    """Raised by a handler of these tests to make its task fail."""


class Retried(Exception):
    """Raised by a handler of these tests to have its task run again, by the next call of `run`."""


class StubGrid:
    """Use it as a context manager. All methods may be called from any thread."""

    topic = ""
    """The notification topic that it names."""

    def __init__(self, handler: Handler | None = None, *, push: bool = True, inline: bool = True) -> None:
        self.handler = handler
        """Run at once on every task that is submitted; when there is none, `run` does it."""
        self.inline = inline
        """Whether results travel in outcomes; else they are stored and fetched by URL."""
        self.page_size = 50
        self.slim_pushes = False
        """Whether pushes leave out results, as those that do not fit into a frame."""
        self.failure_kind = FailureKind.HANDLER
        """How tasks fail that raise `Failing`."""
        self.ranges = True
        """Whether stored results are given in ranges to those who ask for them."""
        self.keep_open = False
        """Whether sessions get no verdict."""
        self.forgetful = False
        """Whether inputs are forgotten as soon as they have come."""
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
        self.push = StubPush(self.changed, listening=push)
        self.store = "s3"
        """Where payloads lie: other stores than `s3` are reached through the API alone."""
        self.relay = StubRelay(self.payloads)
        self.data = StubData(self)
        self._tokens: set[str] = set()
        self._api = StubApi(self)
        self._http = HttpServer(self.answer)
        self._threads = [threading.Thread(target=self._http.serve_forever, args=(0.01,)), *self.push.threads()]

    def __enter__(self) -> "StubGrid":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.push.close()
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def profile(self, **changes: object) -> Profile:
        values: dict[str, object] = {
            "api_url": f"{self.url}/api",
            "push_url": f"http://127.0.0.1:{self.push.port}/push",
            "region": "eu-west-1",
            "user_pool_client_id": "client",
            "aws_endpoint_url": self.url,
            "username": USER,
            "password": PASSWORD,
        }
        return Profile.model_validate(values | changes)

    def link(self, kind: str, session_id: str, name: str, size: int) -> str:
        """Where a client finds a payload."""
        if self.store != "s3":
            return f"/payloads/{session_id}/{kind}/{name}?store={self.store}&size={size}"
        folder = "in" if kind == "inputs" else "out"
        return f"{self.url}/{folder}/{session_id}/{name}?X-Amz-Signature=secret"

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
        self.push.opened_all()
        self.push.drop()

    def wait_for(self, met: Callable[[], bool], timeout: float = 60.0) -> None:
        with self.changed:
            assert self.changed.wait_for(met, timeout)

    @property
    def connected(self) -> bool:
        return bool(self.push.connections)

    # --- running tasks ---

    def run(self, session_id: str, handler: Handler, chunks: list[int] | None = None, *, repeat: int = 1) -> None:
        """Run some chunks of a session, all open ones by default, and push their outcomes."""
        with self.lock:
            session = self.sessions[session_id]
            numbers = [n for n in sorted(session.chunks) if n not in session.outcomes] if chunks is None else chunks
            outcomes = []
            for number in numbers:
                if number not in session.outcomes:
                    self._end_attempt(session, session.chunks[number], handler)
                outcomes.append(session.outcomes.get(number) or session.partial[number])
        for outcome in outcomes:
            slim = outcome.model_copy(update={"url": None})
            if self.slim_pushes and outcome.results is not None:
                slim = slim.model_copy(update={"results": None, "stored_bytes": len(outcome.results)})
            told = {"outcomes": (slim,)} if isinstance(slim, ChunkOutcome) else {"outcomes": (), "partial": (slim,)}
            for _ in range(repeat):
                self.publish(session, ChunksFrame.model_validate({"session_id": session_id, **told}))
        self._end_if_done(session)

    def publish(self, session: StubSession, frame: ChunksFrame | SessionEndedFrame) -> None:
        """Tell whoever follows the session."""
        self.push.send(set(session.subscribers), frame)

    def _end_attempt(self, session: StubSession, chunk: ChunkInput, handler: Handler) -> None:
        data = chunk.inputs if chunk.inputs is not None else self.payloads[f"/in/{session.session_id}/{chunk.chunk}"]
        codes, lines = "", []
        attempt = session.partial[chunk.chunk].attempt + 1 if chunk.chunk in session.partial else 1
        for index, line in enumerate(decode_lines(data, chunk.size), chunk.first_task):
            try:
                lines.append(json.dumps(handler(json.loads(session.events.get(index, line)))).encode())
                codes += "C"
            except Failing as error:
                lines.append(session.error(index, str(error), self.failure_kind).model_dump_json().encode())
                codes += "F"
            except Retried:
                lines.append(b"")
                codes += "Q"
        results = encode_lines(lines)
        place: dict[str, object] = {"results": results}
        if not self.inline:
            name = f"{chunk.chunk}.{attempt}"
            self.payloads[f"/out/{session.session_id}/{name}"] = results
            link = self.link("results", session.session_id, name, len(results))
            place = {"stored_bytes": len(results), "url": link}
        values = {
            "chunk": chunk.chunk,
            "first_task": chunk.first_task,
            "outcomes": codes,
            "attempt": attempt,
            "agent": f"agent-1{session.text}",
            "stages": Stages(submitted_at=1, queued_at=2, claimed_at=3, started_at=4, finished_at=5),
            **place,
        }
        if "Q" in codes:
            session.partial[chunk.chunk] = PartialOutcome.model_validate(values)
        else:
            session.outcomes[chunk.chunk] = ChunkOutcome.model_validate(values)

    def _end_if_done(self, session: StubSession) -> None:
        with self.changed:
            self.changed.notify_all()
            if session.state.ended or session.totals is None or self.keep_open:
                return
            if session.stop_reason is None and len(session.outcomes) < session.totals.chunks:
                return
            session.state = SessionState.FAILED if session.account().failed else SessionState.COMPLETED
            if session.stop_reason is not None:
                session.state = _VERDICTS.get(session.stop_reason, SessionState.FAILED)
            frame = SessionEndedFrame(
                session_id=session.session_id, state=session.state, account=session.account(), ended_at=9
            )
        self.publish(session, frame)

    # --- the way in ---

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
                return self._payload(method, url.path, headers, body)
            if headers.get("authorization", "").removeprefix("Bearer ") not in self._tokens:
                return Answer(401, b'{"message":"Unauthorized"}')
            answer, session_id = self._api.route(method, url.path.removeprefix("/api"), url.query, body)
            stopping = [session for session in self.sessions.values() if session.cancelled]
        for session in stopping:
            self._end_if_done(session)
        if session_id is not None:
            if self.handler is not None:
                self.run(session_id, self.handler)
            self._end_if_done(self.sessions[session_id])
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

    def _payload(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if method == "PUT":
            if path in self.payloads and headers.get("if-none-match") == "*":
                return Answer(412, b"PreconditionFailed")
            self.payloads[path] = b"" if self.forgetful else body
        if path not in self.payloads:
            return Answer(404, b"NoSuchKey")
        return self._object(self.payloads[path], headers)

    def _object(self, content: bytes, headers: dict[str, str]) -> Answer:
        """As S3 gives an object, or a range of it."""
        tag = {"etag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'}
        if headers.get("if-match", tag["etag"]) != tag["etag"]:
            return Answer(412, b"PreconditionFailed")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if not asked or not self.ranges:
            return Answer(200, content, tag)
        begin, last = map(int, asked.groups())
        return Answer(206, content[begin : last + 1], tag) if begin < len(content) else Answer(416, b"InvalidRange")
