"""Requests and responses of the HTTP API. Both of its sides import them from here."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from htcgrid_events.data import Digests, References
from htcgrid_events.identifiers import BUCKET_SIZE
from htcgrid_events.limits import (
    INLINE_BYTES,
    MAX_CHUNKS,
    MAX_CHUNKS_PER_REQUEST,
    MAX_DATA_PER_REQUEST,
    MAX_TASKS,
    MAX_TASKS_PER_CHUNK,
)
from htcgrid_events.model import (
    AtMost,
    Blob,
    ChunkNumber,
    Contract,
    PayloadSize,
    Request,
    SessionId,
    StoreName,
    SubscriberId,
    TaskIndex,
    TimestampMs,
    Whole,
    Written,
    known_fields_of,
)
from htcgrid_events.options import SessionOptions
from htcgrid_events.outcome import Attempt, ChunkOutcome, PartialOutcome, Stages, TaskError
from htcgrid_events.states import SessionState, TaskState
from htcgrid_events.views import Shown, counted, moment


def _moment(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def _is_empty(named: tuple[object, ...]) -> bool:
    """A grid of an earlier release does not know the field."""
    return not named


def _is_s3(store: str) -> bool:
    # Grids of before know no field for it, and refuse what they do not know.
    return store == "s3"


class ChunkInput(Request):
    """One chunk to be submitted. Its inputs are JSON lines, compressed: here when small, else already uploaded."""

    chunk: ChunkNumber
    first_task: TaskIndex
    """The tasks of the chunks before it; chunks hold the tasks in the order of their numbers."""
    size: Annotated[Whole, Field(ge=1, le=MAX_TASKS_PER_CHUNK)]
    inputs: Annotated[Blob, Field(max_length=INLINE_BYTES * 2)] | None = None
    stored_bytes: PayloadSize | None = None
    store: Annotated[StoreName, Field(exclude_if=_is_s3)] = "s3"
    """In which payload store uploaded inputs lie, as `UploadPlaces` said."""

    @model_validator(mode="after")
    def _one_place(self) -> "ChunkInput":
        if (self.inputs is None) == (self.stored_bytes is None):
            raise ValueError("give either inputs or stored_bytes")
        if self.inputs is not None and len(self.inputs) > INLINE_BYTES:
            raise ValueError(f"inputs above {INLINE_BYTES} bytes are to be uploaded first")
        return self


class Totals(Request):
    """How much the whole session holds. Saying it closes the session to further chunks."""

    chunks: Annotated[Whole, Field(ge=1, le=MAX_CHUNKS)]
    tasks: Annotated[Whole, Field(ge=1, le=MAX_TASKS)]


class AddChunks(Request):
    """`POST /sessions/{session_id}/chunks`. Repeating it changes nothing."""

    chunks: Annotated[
        tuple[ChunkInput, ...],
        Field(max_length=MAX_CHUNKS_PER_REQUEST),
        BeforeValidator(AtMost(MAX_CHUNKS_PER_REQUEST)),
    ] = ()
    totals: Totals | None = None
    data: Annotated[Digests, Field(exclude_if=_is_empty)] = ()
    """The shared data to which the tasks of this request refer. If some is not there, the request is refused."""

    @model_validator(mode="after")
    def _distinct(self) -> "AddChunks":
        if len({item.chunk for item in self.chunks}) != len(self.chunks):
            raise ValueError("a chunk number occurs twice")
        return self

    @property
    def all_data(self) -> frozenset[str]:
        """The digests of all shared data that it names."""
        return frozenset(self.data)


class CreateSession(AddChunks):
    """`PUT /sessions/{session_id}`, with the id made by the client. Repeating it changes nothing."""

    options: Annotated[SessionOptions, known_fields_of(SessionOptions)] = SessionOptions()
    subscriber_id: SubscriberId | None = None
    preload: Annotated[References, Field(exclude_if=_is_empty)] = ()
    """Shared data that the agents of the session's partition are to fetch before its tasks want it."""

    @property
    def all_data(self) -> frozenset[str]:
        """The digests of all shared data that it names."""
        return super().all_data | {reference.sha256 for reference in self.preload}

    @model_validator(mode="after")
    def _few_data(self) -> "CreateSession":
        if len(self.all_data) > MAX_DATA_PER_REQUEST:
            raise ValueError(f"data and preload name more than {MAX_DATA_PER_REQUEST} digests together")
        return self


class Account(Shown, Contract):
    """How many tasks a session holds, and what became of them."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        """Tasks with an outcome."""
        return self.completed + self.failed + self.cancelled

    @property
    def closes(self) -> bool:
        """Whether every submitted task has exactly one outcome."""
        return self.submitted == self.finished

    def _summary(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        cancelled = f", {self.cancelled:,} cancelled" if self.cancelled else ""
        return f"{self.completed:,} of {counted(self.submitted, 'task')} completed{failed}{cancelled}"

    def _details(self) -> dict[str, object]:
        return self.model_dump()


class SessionAccepted(Contract):
    """The answer to chunks that the grid has taken over: from now on none of them is lost. It costs no count of what
    the session holds, so that a long submission does not read its account again with every request."""

    session_id: SessionId
    state: SessionState
    deadline_at: TimestampMs


class StopReason(StrEnum):
    """Why a session takes no more chunks and its open tasks are cancelled."""

    CANCELLED = "cancelled"
    """Its owner said so."""
    TIMED_OUT = "timed_out"
    """Its deadline has passed."""
    FAILURES = "failures"
    """More tasks have failed than its budget allows."""


class SessionStatus(Shown, Contract):
    """`GET /sessions/{session_id}`: a session with its account as it is now."""

    session_id: SessionId
    state: SessionState
    options: SessionOptions
    account: Account
    chunks: int
    created_at: TimestampMs
    deadline_at: TimestampMs
    ended_at: TimestampMs | None = None
    paused: bool = False
    """Whether its queued tasks are paused."""
    stop_reason: StopReason | None = None
    function_digests: tuple[str, ...] = ()
    """The versions of the function that its finished tasks ran on. Where there are several, results are of different
    code."""

    @property
    def created(self) -> datetime:
        """`created_at` as a moment in UTC."""
        return _moment(self.created_at)

    @property
    def deadline(self) -> datetime:
        """`deadline_at` as a moment in UTC."""
        return _moment(self.deadline_at)

    @property
    def ended(self) -> datetime | None:
        """`ended_at` as a moment in UTC; none while the session has not ended."""
        return None if self.ended_at is None else _moment(self.ended_at)

    def _summary(self) -> str:
        paused = ", paused" if self.paused else ""
        stopped = f" ({self.stop_reason.value})" if self.stop_reason else ""
        return f"{self.session_id} {self.state.value}{stopped}{paused}: {self.account._summary()}"

    def _details(self) -> dict[str, object]:
        return {
            **self.account.model_dump(),
            "chunks": self.chunks,
            "partition": self.options.partition,
            "priority": self.options.priority.value,
            "created": moment(self.created_at),
            "deadline": moment(self.deadline_at),
            "ended": moment(self.ended_at),
        }


class SessionSummary(Shown, Contract):
    """One line of a list of sessions."""

    session_id: SessionId
    state: SessionState
    created_at: TimestampMs
    deadline_at: TimestampMs
    ended_at: TimestampMs | None = None
    account: Account | None = None
    """The account at the verdict; none while the session is open, since counting costs a read for every 128 chunks."""

    @property
    def created(self) -> datetime:
        """`created_at` as a moment in UTC."""
        return _moment(self.created_at)

    @property
    def deadline(self) -> datetime:
        """`deadline_at` as a moment in UTC."""
        return _moment(self.deadline_at)

    @property
    def ended(self) -> datetime | None:
        """`ended_at` as a moment in UTC; none while the session has not ended."""
        return None if self.ended_at is None else _moment(self.ended_at)

    def _summary(self) -> str:
        counted = f": {self.account._summary()}" if self.account else ""
        return f"{self.session_id} {self.state.value}, created {moment(self.created_at)}{counted}"

    def _details(self) -> dict[str, object]:
        return {
            "created": moment(self.created_at),
            "deadline": moment(self.deadline_at),
            "ended": moment(self.ended_at),
            **(self.account.model_dump() if self.account else {}),
        }


class SessionPage(Contract):
    """`GET /sessions?state=&before=`: sessions of the tenant, newest first."""

    sessions: tuple[SessionSummary, ...]
    next_before: str | None = None
    """What to give as `before` to go on; none at the end."""


class CancelSessions(Request):
    """`POST /sessions/cancel`: stop several sessions, or open ones of the tenant where none is named. A request stops
    up to 100 sessions; who wants to stop all repeats it until its answer names none."""

    session_ids: Annotated[tuple[SessionId, ...], Field(max_length=100), BeforeValidator(AtMost(100))] | None = None


class CancelledSessions(Shown, Contract):
    """Which sessions were told to stop, and which of those named are not the tenant's."""

    stopping: tuple[SessionId, ...]
    ended: tuple[SessionId, ...] = ()
    """Those that had their verdict already."""
    unknown: tuple[SessionId, ...] = ()

    def _summary(self) -> str:
        return f"{len(self.stopping):,} stopping, {len(self.ended):,} ended before, {len(self.unknown):,} unknown"

    def _details(self) -> dict[str, object]:
        return {name: ", ".join(ids) or "-" for name, ids in self.model_dump().items()}


class ChunkRecord(Shown, Contract):
    """A chunk as it is now, finished or not."""

    chunk: int
    first_task: int
    size: int
    state: TaskState
    """The state of its tasks that have no outcome yet; of a finished chunk, COMPLETED."""
    outcomes: str
    """A letter of `OutcomeCode` per task."""
    attempt: int
    owner: str | None
    claimable_at: TimestampMs
    """While it runs the end of its lease, while it waits for a retry the end of the wait, else 0."""
    stages: Stages

    def _summary(self) -> str:
        owner = f" on {self.owner}" if self.owner else ""
        last = self.first_task + self.size - 1
        tasks = f"task {last:,}" if self.size == 1 else f"tasks {self.first_task:,} to {last:,}"
        return f"{self.chunk} ({tasks}) {self.state.value}{owner}"

    def _details(self) -> dict[str, object]:
        return {
            "outcomes": self.outcomes,
            "attempt": self.attempt,
            "claimable": moment(self.claimable_at),
            **{name.removesuffix("_at"): moment(at) for name, at in self.stages.model_dump().items()},
        }


class ChunkPage(Contract):
    """`GET /sessions/{session_id}/buckets/{bucket}/chunks?after=`: the chunks of one bucket, in order."""

    chunks: tuple[ChunkRecord, ...]
    next_after: int | None = None
    """The chunk after which to go on; none when the bucket was read to its end."""


class GridInfo(Shown, Contract):
    """`GET /grid`: what a client may know of the grid that it talks to."""

    version: str
    region: str
    partitions: tuple[str, ...]
    notification_topic: str
    tenant: str
    """The caller, as the grid knows it."""
    now: TimestampMs
    """The grid's clock."""
    store: StoreName = "s3"
    """The payload store that takes new inputs."""

    def _summary(self) -> str:
        return f"version {self.version} in {self.region}, as {self.tenant}"

    def _details(self) -> dict[str, object]:
        return {
            "partitions": ", ".join(self.partitions),
            "notification topic": self.notification_topic or "-",
            "store": self.store,
            "clock": moment(self.now),
        }


class OutcomePage(Contract):
    """`GET /sessions/{session_id}/buckets/{bucket}/outcomes?after=`: finished chunks of one bucket, in order, and what
    is final of others."""

    outcomes: tuple[ChunkOutcome, ...]
    partial: tuple[PartialOutcome, ...] = ()
    """Chunks in between that are not counted as finished, and of which tasks are final."""
    next_after: int | None = None
    """The chunk after which to go on; none when the bucket was read to its end."""


class TaskRecord(Shown, Contract):
    """`GET /sessions/{session_id}/tasks/{index}`."""

    session_id: SessionId
    task_id: str
    index: int
    state: TaskState
    chunk: int
    owner: str | None
    attempt: int = 0
    """The last attempt at its chunk: how often the chunk was claimed."""
    attempts: int
    """How often the task was tried, as in `TaskError`: what failed, what completed it, and the try that runs now."""
    retries: int
    """How often it was or will be tried again after a failure."""
    options: SessionOptions
    message_handle: str | None
    lease_expires_at: TimestampMs | None
    stages: Stages
    error: TaskError | None = None
    function_digests: tuple[str, ...] = ()
    """The versions of the function that the tasks of its chunk ran on so far."""
    history: tuple[Attempt, ...] = ()
    """The tries that did not complete it, oldest first, of a task that has not failed for good; else see `error`."""

    def _summary(self) -> str:
        owner = f" on {self.owner}" if self.owner else ""
        return f"{self.task_id} {self.state.value} after {counted(self.attempts, 'attempt')}{owner}"

    def _details(self) -> dict[str, object]:
        return {
            "chunk": self.chunk,
            "partition": self.options.partition,
            "priority": self.options.priority.value,
            "lease expires": moment(self.lease_expires_at),
            **{name.removesuffix("_at"): moment(at) for name, at in self.stages.model_dump().items()},
            **({"error": f"{self.error.type}: {self.error.message}"} if self.error else {}),
        }


class TaskInput(Contract):
    """`GET /sessions/{session_id}/tasks/{index}/event`: what a task was given, among the inputs of its chunk, which are
    JSON lines, compressed: here when small, else in the data plane."""

    index: int
    line: Annotated[int, Field(ge=0)]
    """Which of the lines is this task's, from 0."""
    lines: Annotated[int, Field(ge=1)]
    inputs: Blob | None = None
    url: Annotated[str | None, Field(repr=False)] = None
    """Where the inputs can be fetched for a short while: an absolute URL, or a path of the API."""


class UploadRequest(Request):
    """`POST /sessions/{session_id}/uploads`: places for the inputs of these chunks. The session need not exist yet."""

    sizes: Annotated[
        dict[Annotated[ChunkNumber, Written], PayloadSize],
        Field(min_length=1, max_length=BUCKET_SIZE),
        BeforeValidator(AtMost(BUCKET_SIZE)),
    ]
    """How many bytes the encoded inputs of each chunk have. A place takes exactly so many."""


class UploadPlaces(Contract):
    """Where to PUT each chunk's inputs, and the headers that the request must carry beside its `Content-Length`. A
    place takes one upload: to a further one it answers 412.

    A place is an absolute URL, or a path of the API itself: that one takes the inputs in parts."""

    urls: Annotated[dict[int, str], Field(repr=False)]
    headers: dict[str, str]
    taken: dict[int, str] = Field(default_factory=dict)
    """Where to GET what lies in a place already, for those who were answered 412 and ask whether it is theirs."""
    store: StoreName = "s3"
    """The payload store in which these places are: to be said again with the chunks."""


class PushTicket(Contract):
    """`PUT /subscribers/{subscriber_id}`: the right to open one WebSocket connection, as `?ticket=`, once, soon."""

    subscriber_id: SubscriberId
    ticket: Annotated[str, Field(repr=False)]
    expires_at: TimestampMs


class ErrorBody(Contract):
    """The body of every answer of 400 and above."""

    error: str
    """A stable word for programs, such as `SessionNotFound`."""
    message: str
    """One sentence for people."""
