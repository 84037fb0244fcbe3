"""What the grid tells the world over its event bus. `SOURCE` is the source, `DETAIL_TYPES` the detail types."""

from typing import Annotated

from pydantic import Field

from htcgrid_events.api import Account
from htcgrid_events.model import Contract, SessionId, TimestampMs
from htcgrid_events.options import SessionOptions
from htcgrid_events.outcome import FailureKind, Stages
from htcgrid_events.states import SessionState

SOURCE = "htcgrid"


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


class ChunkCompleted(Contract):
    """A chunk has finished; only for sessions with `publish_completions`."""

    session_id: SessionId
    tenant: str
    chunk: Annotated[int, Field(ge=0)]
    first_task: Annotated[int, Field(ge=0)]
    outcomes: str
    stages: Stages


DETAIL_TYPES: dict[str, type[Contract]] = {
    "Session Created": SessionCreated,
    "Session Completed": SessionEnded,
    "Session Failed": SessionEnded,
    "Session Cancelled": SessionEnded,
    "Session TimedOut": SessionEnded,
    "Tasks Failed": TasksFailed,
    "Chunk Completed": ChunkCompleted,
}

ENDED_DETAIL_TYPE: dict[SessionState, str] = {
    SessionState.COMPLETED: "Session Completed",
    SessionState.FAILED: "Session Failed",
    SessionState.CANCELLED: "Session Cancelled",
    SessionState.TIMED_OUT: "Session TimedOut",
}
