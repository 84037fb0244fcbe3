"""The routes of a stub grid's API."""

import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from connector.tests.stub_http import Answer, ok, refusal
from connector.tests.stub_session import FINGERPRINT, StubSession, paged

from htcgrid_events import (
    BUCKET_SIZE,
    VERSION,
    AddChunks,
    CancelledSessions,
    CancelSessions,
    ChunkPage,
    CreateSession,
    DeadLetterPage,
    DeadLettersDone,
    GridInfo,
    PurgeTasks,
    RedriveTasks,
    SessionAccepted,
    SessionPage,
    SessionState,
    TaskInput,
    UploadPlaces,
    UploadRequest,
)

if TYPE_CHECKING:
    from connector.tests.stub_grid import StubGrid

Query = dict[str, str]
Routed = tuple[Answer, str | None]
"""An answer, and the session that may have something to run or to end."""


class StubApi:
    def __init__(self, grid: "StubGrid") -> None:
        self._grid = grid

    def route(self, method: str, path: str, query_text: str, body: bytes) -> Routed:
        query = {name: values[0] for name, values in parse_qs(query_text).items()}
        grid, parts = self._grid, path.strip("/").split("/")
        match method, parts:
            case "GET", ["grid"]:
                return ok(self._info()), None
            case "GET", ["sessions"]:
                return ok(self._list(query)), None
            case "POST", ["sessions", "cancel"]:
                return ok(self._cancel_many(CancelSessions.model_validate_json(body))), None
            case "PUT", ["subscribers", subscriber]:
                return ok(grid.push.issue_ticket(subscriber)), None
            case "PUT", ["sessions", session_id]:
                request = CreateSession.model_validate_json(body)
                if refused := grid.data.refusal_of(body, request.all_data):
                    return refused, None
                fresh = StubSession(session_id, request.options, created_at=len(grid.sessions) + 1)
                session = grid.sessions.setdefault(session_id, fresh)
                if request.subscriber_id:
                    session.subscribers.add(request.subscriber_id)
                return self._add(session, request), session_id
            case "POST", ["sessions", session_id, "uploads"]:
                wanted = UploadRequest.model_validate_json(body).sizes
                urls = {n: grid.link("inputs", session_id, str(n), size) for n, size in wanted.items()}
                headers = {"Content-Type": "application/zlib", "If-None-Match": "*"}
                return ok(UploadPlaces(urls=urls, headers=headers, taken=urls, store=grid.store)), None
            case "GET" | "PUT", ["payloads", session_id, kind, name]:
                return grid.relay.answer(method, (session_id, kind, name), query, body), None
            case _, ["data", *rest]:
                return grid.data.answer(method, rest, query, body), None
            case _, ["sessions", session_id, *rest] if session_id in grid.sessions:
                return self._of_session(method, grid.sessions[session_id], rest, query, body)
        return refusal(404, "SessionNotFound"), None

    def _of_session(self, method: str, session: StubSession, rest: list[str], query: Query, body: bytes) -> Routed:
        session_id = session.session_id
        match method, rest:
            case "GET", []:
                return ok(session.status()), None
            case "POST", ["chunks"]:
                added = AddChunks.model_validate_json(body)
                if refused := self._grid.data.refusal_of(body, added.all_data):
                    return refused, None
                return self._add(session, added), session_id
            case "POST", ["cancel"]:
                session.cancel()
                return ok(session.status(), 202), session_id
            case "POST", ["pause" | "resume" as word]:
                if session.state.ended:
                    return refusal(409, "SessionEnded"), None
                session.paused = word == "pause"
                return ok(session.status()), session_id
            case "PUT", ["subscribers", subscriber]:
                session.subscribers.add(subscriber)
                return ok(session.status()), None
            case "GET", ["buckets", bucket, "outcomes"]:
                return ok(session.page(int(bucket), int(query.get("after", -1)), self._grid.page_size)), None
            case "GET", ["buckets", bucket, "chunks"]:
                page, after = paged(session.chunks, int(bucket), int(query.get("after", -1)), self._grid.page_size)
                return ok(ChunkPage(chunks=tuple(map(session.record, page)), next_after=after)), None
            case "GET", ["tasks", index]:
                record = session.task(int(index))
                return (refusal(404, "TaskNotFound") if record is None else ok(record)), None
            case "GET", ["tasks", index, "event"]:
                return self._input(session, int(index)), None
            case "GET", ["dead-letters"]:
                return ok(self._letters(session, query)), None
            case "POST", ["dead-letters", "redrive"]:
                return ok(self._redrive(session, RedriveTasks.model_validate_json(body))), session_id
            case "POST", ["dead-letters", "purge"]:
                return ok(self._purge(session, PurgeTasks.model_validate_json(body))), None
        raise AssertionError(f"the stub grid has no {method} /sessions/{session_id}/{'/'.join(rest)}")

    def _info(self) -> GridInfo:
        return GridInfo(
            version=VERSION,
            region="eu-west-1",
            partitions=("default", "gpu"),
            notification_topic=self._grid.topic,
            tenant="ada",
            now=int(time.time() * 1000),
            store=self._grid.store,
        )

    def _list(self, query: Query) -> SessionPage:
        before = query.get("before", "9")
        found = sorted(self._grid.sessions.values(), key=lambda session: -session.created_at)
        found = [s for s in found if s.listed < before and query.get("state") in (None, s.state.value)]
        page = found[: self._grid.page_size]
        return SessionPage(
            sessions=tuple(session.summary() for session in page),
            next_before=page[-1].listed if len(found) > len(page) else None,
        )

    def _cancel_many(self, request: CancelSessions) -> CancelledSessions:
        sessions = self._grid.sessions
        named = request.session_ids
        if named is None:
            named = tuple(key for key, session in sessions.items() if not session.state.ended and not session.cancelled)
            named = named[: self._grid.page_size]
        known = [key for key in named if key in sessions]
        ended = tuple(key for key in known if sessions[key].state.ended)
        stopping = tuple(key for key in known if key not in ended)
        for key in stopping:
            sessions[key].cancel()
        return CancelledSessions(
            stopping=stopping, ended=ended, unknown=tuple(key for key in named if key not in sessions)
        )

    def _add(self, session: StubSession, request: AddChunks) -> Answer:
        for chunk in request.chunks:
            assert chunk.store == ("s3" if chunk.inputs is not None else self._grid.store)
            kept = chunk.model_copy(update={"inputs": b""}) if self._grid.forgetful else chunk
            session.chunks.setdefault(chunk.chunk, kept)
        if request.totals is not None:
            assert len(session.chunks) == request.totals.chunks
            session.totals = request.totals
            if session.state is SessionState.OPEN:
                session.state = SessionState.RUNNING
        return ok(SessionAccepted(session_id=session.session_id, state=session.state, deadline_at=2))

    def _input(self, session: StubSession, index: int) -> Answer:
        for number, chunk in session.chunks.items():
            if chunk.first_task <= index < chunk.first_task + chunk.size:
                place = self._grid.link("inputs", session.session_id, str(number), chunk.stored_bytes or 0)
                url = None if chunk.inputs else place
                line = index - chunk.first_task
                return ok(TaskInput(index=index, line=line, lines=chunk.size, inputs=chunk.inputs, url=url))
        return refusal(404, "TaskNotFound")

    def _letters(self, session: StubSession, query: Query) -> DeadLetterPage:
        letters, rest = self._from(session, int(query.get("bucket", 0)), int(query.get("after", -1)))
        following = {} if rest is None else {"next_bucket": rest // BUCKET_SIZE, "next_after": rest}
        return DeadLetterPage(letters=tuple(session.letters()[n] for n in letters), **following)

    def _from(self, session: StubSession, bucket: int, after: int) -> tuple[list[int], int | None]:
        found = [n for n in session.letters() if n > after and n // BUCKET_SIZE >= bucket]
        page = found[: self._grid.page_size]
        return page, page[-1] if len(found) > len(page) else None

    def _redrive(self, session: StubSession, request: RedriveTasks) -> DeadLettersDone:
        session.events.update(request.events)
        letters = session.letters()
        page, rest = self._from(session, request.bucket, request.after)
        tasks = 0
        for number in page:
            chosen = _chosen(request, letters[number].tasks)
            if chosen and number not in session.running:
                del session.outcomes[number]
                session.state = SessionState.RUNNING
                tasks += len(chosen)
        return _done(tasks, rest)

    def _purge(self, session: StubSession, request: PurgeTasks) -> DeadLettersDone:
        letters = session.letters()
        page, rest = self._from(session, request.bucket, request.after)
        chosen = {number: _chosen(request, letters[number].tasks) for number in page}
        session.purged.update(number for number, tasks in chosen.items() if tasks)
        return _done(sum(map(len, chosen.values())), rest)


def _chosen(request: RedriveTasks | PurgeTasks, tasks: tuple[int, ...]) -> list[int]:
    if request.fingerprint not in (None, FINGERPRINT):
        return []
    return [task for task in tasks if request.tasks is None or task in request.tasks]


def _done(tasks: int, rest: int | None) -> DeadLettersDone:
    following = {} if rest is None else {"next_bucket": rest // BUCKET_SIZE, "next_after": rest}
    return DeadLettersDone(tasks=tasks, **following)
