"""What the grid tells the world over its event bus. `SOURCE` is the source, `DETAIL_TYPES` the detail types."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from htcgrid_events.api import Account, StopReason
from htcgrid_events.dead_letters import DeadLetter
from htcgrid_events.model import Contract, SessionId, TimestampMs
from htcgrid_events.options import SessionOptions
from htcgrid_events.outcome import FailureKind, Stages
from htcgrid_events.states import SessionState

SOURCE = "htcgrid"

MAX_LISTED_RETRIES = 10
"""Tasks that one event of a retry lists: ten such events in a request stay far below its size."""


class SessionCreated(Contract):
    """A session exists; its lifecycle workflow starts on this."""

    session_id: SessionId
    tenant: str
    options: SessionOptions
    created_at: TimestampMs
    deadline_at: TimestampMs


class SessionEnded(Contract):
    """A session has its verdict. The detail type says which."""

    session_id: SessionId
    tenant: str
    state: SessionState
    account: Account
    created_at: TimestampMs
    ended_at: TimestampMs


class FailedTask(Contract):
    """One task that failed for good."""

    task_id: str
    kind: FailureKind
    type: str
    message: str
    attempts: int


class TasksFailed(Contract):
    """Tasks of one chunk that failed for good."""

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    tasks: tuple[FailedTask, ...]
    """The first of those whose error could be read; errors in the data plane are listed by their number alone."""
    failed: Annotated[int, Field(ge=1)]


class TasksRetrying(Contract):
    """Tasks of one chunk failed and are run again. Agents send it with their task events, and it goes on to the bus."""

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


class ChunkCompleted(Contract):
    """A chunk has finished; only for sessions with `publish_completions`."""

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    first_task: Annotated[int, Field(ge=0)]
    outcomes: str
    stages: Stages


class SessionStopping(Contract):
    """A session takes no more chunks, and its open tasks are being cancelled."""

    session_id: SessionId
    tenant: str
    reason: StopReason


class SessionHeld(Contract):
    """The queued tasks of a session are to be held, or to be let go. The detail type says which."""

    session_id: SessionId
    tenant: str


class LeaseAction(StrEnum):
    """What was done about a chunk that nobody took care of."""

    REQUEUED = "requeued"
    """It is run again."""
    GIVEN_UP = "given-up"
    """Agents kept dying over it, so its open tasks have failed."""
    SENT_AGAIN = "sent-again"
    """It waited, and its message was gone."""
    COUNTED = "counted"
    """It had finished, and nobody had counted it."""


class ChunkRecovered(Contract):
    """A chunk whose agent died without a word, or whose message was lost, was found and seen to."""

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=0)]
    """The attempt that was lost; 0 if it was never claimed."""
    agent: str
    action: LeaseAction


class TaskDeadLettered(Contract):
    """Tasks of one chunk that failed for good are kept as dead letters."""

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    letters: tuple[DeadLetter, ...]
    """The first of them; those that one event has no room for are listed by the API."""
    failed: Annotated[int, Field(ge=1)]
    """How many tasks there are in all of the chunk's letters."""


class AccountMismatch(Contract):
    """A session's account did not close when it should, and was counted anew from the rows."""

    session_id: SessionId
    tenant: str
    before: Account
    after: Account


DETAIL_TYPES: dict[str, type[Contract]] = {
    "Session Created": SessionCreated,
    "Session Reopened": SessionCreated,
    "Session Paused": SessionHeld,
    "Session Resumed": SessionHeld,
    "Session Stopping": SessionStopping,
    "Session Completed": SessionEnded,
    "Session Failed": SessionEnded,
    "Session Cancelled": SessionEnded,
    "Session TimedOut": SessionEnded,
    "Tasks Retrying": TasksRetrying,
    "Tasks Failed": TasksFailed,
    "Task Dead-Lettered": TaskDeadLettered,
    "Chunk Completed": ChunkCompleted,
    "Chunk Recovered": ChunkRecovered,
    "Account Mismatch": AccountMismatch,
}

ENDED_DETAIL_TYPE: dict[SessionState, str] = {
    SessionState.COMPLETED: "Session Completed",
    SessionState.FAILED: "Session Failed",
    SessionState.CANCELLED: "Session Cancelled",
    SessionState.TIMED_OUT: "Session TimedOut",
}
