"""The grid's HTTP API as typed calls."""

import re
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from htcgrid._transport.authorised import REFUSED_FROM, Authorised, error_body
from htcgrid._transport.direct import DirectStores
from htcgrid._transport.payloads import Payloads
from htcgrid.errors import (
    DataMissing,
    DataNotFound,
    GridError,
    InvalidData,
    InvalidOption,
    RequestRejected,
    SessionNotFound,
    TaskNotFound,
    UnexpectedAnswer,
)
from htcgrid_events import (
    AddChunks,
    CancelledSessions,
    CancelSessions,
    ChunkPage,
    Contract,
    CreateSession,
    DataDeleted,
    DataPage,
    DataPlace,
    DataRecord,
    DeadLetterPage,
    DeadLettersDone,
    GridInfo,
    OutcomePage,
    PurgeTasks,
    PushTicket,
    PutData,
    RedriveTasks,
    SessionAccepted,
    SessionPage,
    SessionState,
    SessionStatus,
    TaskInput,
    TaskRecord,
    UploadPlaces,
    UploadRequest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from htcgrid._transport.http import Http
    from htcgrid._transport.tokens import Tokens

_Answer = TypeVar("_Answer", bound=Contract)


class Api:
    """All requests of the connector. Each may be repeated, and is, until it is answered or the time limit passes.

    Every call raises `AuthenticationFailed`, `GridUnreachable`, `GridUnavailable`, `RequestRejected` or
    `UnexpectedAnswer`, and `SessionNotFound` where it names a session.
    """

    def __init__(
        self, base_url: str, tokens: "Tokens", http: "Http", stores: "Mapping[str, Mapping[str, str]] | None" = None
    ) -> None:
        """`stores` are those that the profile describes."""
        self._requests = Authorised(base_url, tokens, http)
        self.payloads = Payloads(http, self._requests, DirectStores(stores or {}, self._tenant))

    async def sign_in(self) -> None:
        """Have a token, so that a wrong password shows before anything is done."""
        await self._requests.sign_in()

    async def create_session(self, session_id: str, request: CreateSession) -> SessionAccepted:
        """Create a session with its first chunks."""
        return await self._ask("PUT", f"/sessions/{quote(session_id)}", SessionAccepted, request, session_id)

    async def add_chunks(self, session_id: str, request: AddChunks) -> SessionAccepted:
        """Add chunks to a session, and close it when the request carries the totals."""
        return await self._ask("POST", f"/sessions/{quote(session_id)}/chunks", SessionAccepted, request, session_id)

    async def status(self, session_id: str) -> SessionStatus:
        """How a session stands."""
        return await self._ask("GET", f"/sessions/{quote(session_id, safe='')}", SessionStatus, None, session_id)

    async def cancel(self, session_id: str) -> SessionStatus:
        """Ask for the cancellation of a session."""
        return await self._ask("POST", f"/sessions/{quote(session_id)}/cancel", SessionStatus, None, session_id)

    async def pause(self, session_id: str) -> SessionStatus:
        """Hold a session's queued tasks."""
        return await self._ask("POST", f"/sessions/{quote(session_id)}/pause", SessionStatus, None, session_id)

    async def resume(self, session_id: str) -> SessionStatus:
        """Let a held session go on."""
        return await self._ask("POST", f"/sessions/{quote(session_id)}/resume", SessionStatus, None, session_id)

    async def sessions(self, state: SessionState | None, before: str | None) -> SessionPage:
        """Sessions of the user in this state, or in any, from those created before a moment on: ms since 1970 in 13
        digits, or what the page before said."""
        query = _query(state=None if state is None else state.value, before=before)
        return await self._ask("GET", f"/sessions{query}", SessionPage, None, None)

    async def cancel_sessions(self, request: CancelSessions) -> CancelledSessions:
        """Ask for the cancellation of several sessions, or of all that are open."""
        return await self._ask("POST", "/sessions/cancel", CancelledSessions, request, None)

    async def grid_info(self) -> GridInfo:
        """The grid's version, Region, partitions and clock, and who is asking."""
        return await self._ask("GET", "/grid", GridInfo, None, None)

    async def dead_letters(self, session_id: str, bucket: int | None, after: int | None) -> DeadLetterPage:
        """Dead letters of a session, from this chunk of this bucket on."""
        path = f"/sessions/{quote(session_id)}/dead-letters{_query(bucket=bucket, after=after)}"
        return await self._ask("GET", path, DeadLetterPage, None, session_id)

    async def redrive(self, session_id: str, request: RedriveTasks) -> DeadLettersDone:
        """Run dead letters again, as many as the request's time allows."""
        path = f"/sessions/{quote(session_id)}/dead-letters/redrive"
        return await self._ask("POST", path, DeadLettersDone, request, session_id)

    async def purge(self, session_id: str, request: PurgeTasks) -> DeadLettersDone:
        """Forget dead letters, as many as the request's time allows."""
        path = f"/sessions/{quote(session_id)}/dead-letters/purge"
        return await self._ask("POST", path, DeadLettersDone, request, session_id)

    async def outcomes(self, session_id: str, bucket: int, after: int | None) -> OutcomePage:
        """Finished chunks of a bucket with numbers above `after`."""
        path = f"/sessions/{quote(session_id)}/buckets/{bucket}/outcomes{_query(after=after)}"
        return await self._ask("GET", path, OutcomePage, None, session_id)

    async def chunks(self, session_id: str, bucket: int, after: int | None) -> ChunkPage:
        """Chunks of a bucket, finished or not, with numbers above `after`."""
        path = f"/sessions/{quote(session_id)}/buckets/{bucket}/chunks{_query(after=after)}"
        return await self._ask("GET", path, ChunkPage, None, session_id)

    async def task(self, session_id: str, index: int) -> TaskRecord:
        """The record of one task. Raises `TaskNotFound` when the session has no such task."""
        return await self._ask("GET", f"/sessions/{quote(session_id)}/tasks/{index}", TaskRecord, None, session_id)

    async def task_input(self, session_id: str, index: int) -> TaskInput:
        """Where a task's event lies. Raises `TaskNotFound` when the session has no such task."""
        path = f"/sessions/{quote(session_id)}/tasks/{index}/event"
        return await self._ask("GET", path, TaskInput, None, session_id)

    async def subscribe(self, session_id: str, subscriber_id: str) -> SessionStatus:
        """Have a session's completions pushed to a subscriber."""
        path = f"/sessions/{quote(session_id)}/subscribers/{subscriber_id}"
        return await self._ask("PUT", path, SessionStatus, None, session_id)

    async def push_ticket(self, subscriber_id: str) -> PushTicket:
        """The right to open one WebSocket connection."""
        return await self._ask("PUT", f"/subscribers/{subscriber_id}", PushTicket, None, None)

    async def upload_places(self, session_id: str, sizes: "Mapping[int, int]") -> UploadPlaces:
        """Where to put inputs that are too large for a request, by chunk; each place takes exactly so many bytes."""
        request = UploadRequest(sizes=dict(sizes))
        return await self._ask("POST", f"/sessions/{quote(session_id)}/uploads", UploadPlaces, request, session_id)

    async def _tenant(self) -> str:
        return (await self.grid_info()).tenant

    async def put_data(self, sha256: str, request: PutData) -> DataPlace:
        """Ask where to upload shared data, or learn that it is there."""
        return await self._ask("PUT", f"/data/{sha256}", DataPlace, request, None)

    async def complete_data(self, sha256: str) -> DataRecord:
        """Let shared data be there, all of which was uploaded."""
        return await self._ask("POST", f"/data/{sha256}/complete", DataRecord, None, None)

    async def data(self, sha256: str) -> DataRecord:
        """What the grid knows of shared data, with a link to it. Raises `DataNotFound` when it has none of this
        digest."""
        return await self._ask("GET", f"/data/{sha256}", DataRecord, None, None)

    async def data_page(self, after: str | None) -> DataPage:
        """Shared data of the user with digests above `after`."""
        return await self._ask("GET", f"/data{_query(after=after)}", DataPage, None, None)

    async def delete_data(self, sha256: str, *, force: bool) -> DataDeleted:
        """Delete shared data, also while sessions may want it if `force`. Raises `InvalidData` for what is no
        digest."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InvalidData(f"{sha256!r} is no digest: give 64 hexadecimal digits, as the list of data shows them")
        query = _query(force="true" if force else None)
        return await self._ask("DELETE", f"/data/{sha256}{query}", DataDeleted, None, None)

    async def _ask(
        self, method: str, path: str, answer: type[_Answer], body: Contract | None, session_id: str | None
    ) -> _Answer:
        content = None if body is None else body.model_dump_json(exclude_none=True).encode()
        response = await self._requests.send(method, path, content)
        if response.status_code >= REFUSED_FROM:
            raise _refusal(response, f"{method} {path}", session_id)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            fields = ", ".join(str(fault["loc"]) for fault in error.errors(include_input=False, include_url=False)[:3])
            raise UnexpectedAnswer(
                f"the grid answered {method} {path} with no {answer.__name__} that this connector understands "
                f"(at {fields}): are their versions the same?"
            ) from None


def _query(**values: str | int | None) -> str:
    """A query of the values that are given."""
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _refusal(response: "httpx.Response", request: str, session_id: str | None) -> GridError:
    body = error_body(response)
    if body.error == "SessionNotFound" and session_id is not None:
        return SessionNotFound(session_id)
    if body.error == "TaskNotFound":
        return TaskNotFound(body.message)
    if body.error == "DataNotFound":
        return DataNotFound(body.message)
    if body.error == "DataMissing":
        return DataMissing(body.message, status=response.status_code, reason=body.error)
    if body.error in ("UnknownPartition", "PartitionDraining"):
        return InvalidOption(body.message)
    return RequestRejected(
        f"the grid refused {request} with status {response.status_code}: {body.message}",
        status=response.status_code,
        reason=body.error,
    )
