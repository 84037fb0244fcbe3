"""Frames that the grid pushes to subscribers, and those that subscribers send."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from htcgrid_events.api import Account
from htcgrid_events.model import Contract, SessionId, TimestampMs
from htcgrid_events.outcome import ChunkOutcome, PartialOutcome
from htcgrid_events.states import SessionState


class ChunksFrame(Contract):
    """Chunks of one session that have finished, and tasks that are final in chunks that have not. May be repeated, and
    come in any order: the number of a chunk and the place of a task in it say which task it is."""

    kind: Literal["chunks"] = "chunks"
    session_id: SessionId
    outcomes: tuple[ChunkOutcome, ...]
    partial: tuple[PartialOutcome, ...] = ()
    """Chunks of which tasks are run again."""


class SessionEndedFrame(Contract):
    """The verdict of a session and its account."""

    kind: Literal["session-ended"] = "session-ended"
    session_id: SessionId
    state: SessionState
    account: Account
    ended_at: TimestampMs
    function_digests: tuple[str, ...] = ()
    """The versions of the function that its tasks ran on."""


class PongFrame(Contract):
    """The answer to a ping, which keeps a connection from being closed as idle."""

    kind: Literal["pong"] = "pong"


PushFrame = Annotated[ChunksFrame | SessionEndedFrame | PongFrame, Field(discriminator="kind")]
PUSH_FRAME: TypeAdapter[ChunksFrame | SessionEndedFrame | PongFrame] = TypeAdapter(PushFrame)


class PingFrame(Contract):
    """Sent by a subscriber at least every 10 minutes, API Gateway's idle limit for WebSocket connections."""

    action: Literal["ping"] = "ping"
