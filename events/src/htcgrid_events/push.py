"""Frames that the grid pushes to subscribers, and those that subscribers send."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from htcgrid_events.api import Account
from htcgrid_events.model import Contract, SessionId, TimestampMs
from htcgrid_events.outcome import ChunkOutcome
from htcgrid_events.states import SessionState


class ChunksFrame(Contract):
    """Chunks of one session that have finished. May be repeated: the chunk's number says which one it is."""

    kind: Literal["chunks"] = "chunks"
    session_id: SessionId
    outcomes: tuple[ChunkOutcome, ...]


class SessionEndedFrame(Contract):
    """The verdict of a session and its account."""

    kind: Literal["session-ended"] = "session-ended"
    session_id: SessionId
    state: SessionState
    account: Account
    ended_at: TimestampMs


class PongFrame(Contract):
    """The answer to a ping, which keeps a connection from being closed as idle."""

    kind: Literal["pong"] = "pong"


PushFrame = Annotated[ChunksFrame | SessionEndedFrame | PongFrame, Field(discriminator="kind")]
PUSH_FRAME: TypeAdapter[ChunksFrame | SessionEndedFrame | PongFrame] = TypeAdapter(PushFrame)


class PingFrame(Contract):
    """Sent by a subscriber at least every 10 minutes, API Gateway's idle limit for WebSocket connections."""

    action: Literal["ping"] = "ping"
