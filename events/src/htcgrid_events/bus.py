"""The events that the grid puts on its event bus, with the source `SOURCE`. Each model names its detail type."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from htcgrid_events.api import Account, StopReason
from htcgrid_events.dead_letters import DeadLetter
from htcgrid_events.model import Contract, SessionId, TimestampMs
from htcgrid_events.options import SessionOptions
from htcgrid_events.outcome import FailureKind, Stages, WorkDone
from htcgrid_events.states import SessionState

SOURCE = "htcgrid"

MAX_LISTED_RETRIES = 10
"""Tasks that one event of a retry lists: ten such events in a request stay far below its size."""


class BusEvent(Contract):
    """The detail of an event."""

    detail_type: ClassVar[str]
    """The event's detail type, by which rules select it."""


class SessionCreated(BusEvent):
    """A session exists; its lifecycle workflow starts on this."""

    detail_type: ClassVar[str] = "Session Created"

    session_id: SessionId
    tenant: str
    options: SessionOptions
    created_at: TimestampMs
    deadline_at: TimestampMs


class SessionReopened(SessionCreated):
    """A session that had ended runs again, since tasks of it were redriven; its lifecycle workflow starts on this."""

    detail_type: ClassVar[str] = "Session Reopened"


class SessionEnded(BusEvent):
    """A session has its verdict. There is an event of its own for each verdict."""

    session_id: SessionId
    tenant: str
    state: SessionState
    account: Account
    created_at: TimestampMs
    ended_at: TimestampMs
    function_digests: tuple[str, ...] = ()
    """The versions of the function that its tasks ran on."""


class SessionCompleted(SessionEnded):
    """Every task of a session has completed."""

    detail_type: ClassVar[str] = "Session Completed"


class SessionFailed(SessionEnded):
    """A session has ended, and tasks of it have failed."""

    detail_type: ClassVar[str] = "Session Failed"


class SessionCancelled(SessionEnded):
    """A session was cancelled."""

    detail_type: ClassVar[str] = "Session Cancelled"


class SessionTimedOut(SessionEnded):
    """A session was ended by its deadline."""

    detail_type: ClassVar[str] = "Session TimedOut"


SESSION_ENDED: Mapping[SessionState, type[SessionEnded]] = {
    SessionState.COMPLETED: SessionCompleted,
    SessionState.FAILED: SessionFailed,
    SessionState.CANCELLED: SessionCancelled,
    SessionState.TIMED_OUT: SessionTimedOut,
}
"""The event of each verdict."""


class FailedTask(Contract):
    """One task that failed, for good or to be run again."""

    task_id: str
    kind: FailureKind
    type: str
    message: str
    attempts: int
    function_digest: str = ""
    """Which version of the function ran at this try; empty where that is not known."""


class TasksFailed(BusEvent):
    """Tasks of one chunk that failed for good."""

    detail_type: ClassVar[str] = "Tasks Failed"

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    tasks: tuple[FailedTask, ...]
    """The first of those whose error could be read; errors in the data plane are listed by their number alone."""
    failed: Annotated[int, Field(ge=1)]


class TasksRetrying(BusEvent):
    """Tasks of one chunk failed and are run again. Agents send it with their task events, and it goes on to the bus."""

    detail_type: ClassVar[str] = "Tasks Retrying"

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)]
    """The attempt of the chunk in which they failed."""
    retry_at: TimestampMs
    """From when on they may be run again."""
    tasks: Annotated[tuple[FailedTask, ...], Field(max_length=MAX_LISTED_RETRIES)]
    """The first of those that failed."""
    failed: Annotated[int, Field(ge=1)]
    work: WorkDone = WorkDone()
    """What this attempt took, also for tasks that did not fail."""


class ChunkCompleted(BusEvent):
    """A chunk has finished; only for sessions with `publish_completions`."""

    detail_type: ClassVar[str] = "Chunk Completed"

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    first_task: Annotated[int, Field(ge=0)]
    outcomes: str
    stages: Stages
    function_digests: tuple[str, ...] = ()
    """The versions of the function that its tasks ran on."""


class SessionStopping(BusEvent):
    """A session takes no more chunks, and its open tasks are being cancelled."""

    detail_type: ClassVar[str] = "Session Stopping"

    session_id: SessionId
    tenant: str
    reason: StopReason


class SessionPaused(BusEvent):
    """A session was paused: its waiting chunks are to be paused."""

    detail_type: ClassVar[str] = "Session Paused"

    session_id: SessionId
    tenant: str


class SessionResumed(BusEvent):
    """A session was resumed: its paused chunks are to be resumed."""

    detail_type: ClassVar[str] = "Session Resumed"

    session_id: SessionId
    tenant: str


class LeaseAction(StrEnum):
    """What recovery did about a chunk."""

    REQUEUED = "requeued"
    """It is run again."""
    GIVEN_UP = "given-up"
    """Agents kept dying over it, so its open tasks have failed."""
    SENT_AGAIN = "sent-again"
    """It waited, and its message was gone."""
    COUNTED = "counted"
    """It had finished, and its event was lost."""


class ChunkRecovered(BusEvent):
    """A chunk whose agent has died, or whose message was lost, was found and recovered."""

    detail_type: ClassVar[str] = "Chunk Recovered"

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=0)]
    """The attempt that was lost; 0 if it was never claimed."""
    agent: str
    action: LeaseAction


class TaskDeadLettered(BusEvent):
    """Tasks of one chunk that failed for good are kept as dead letters."""

    detail_type: ClassVar[str] = "Task Dead-Lettered"

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    letters: tuple[DeadLetter, ...]
    """The first of them; those that one event has no room for are listed by the API."""
    failed: Annotated[int, Field(ge=1)]
    """How many tasks there are in all of the chunk's letters."""


class AccountMismatch(BusEvent):
    """A session's account did not close when it should, and was counted anew from the rows."""

    detail_type: ClassVar[str] = "Account Mismatch"

    session_id: SessionId
    tenant: str
    before: Account
    after: Account


_EVENTS: tuple[type[BusEvent], ...] = (
    SessionCreated,
    SessionReopened,
    SessionPaused,
    SessionResumed,
    SessionStopping,
    *SESSION_ENDED.values(),
    TasksRetrying,
    TasksFailed,
    TaskDeadLettered,
    ChunkCompleted,
    ChunkRecovered,
    AccountMismatch,
)

BUS_EVENTS: Mapping[str, type[BusEvent]] = {event.detail_type: event for event in _EVENTS}
"""All events, by their detail types."""
