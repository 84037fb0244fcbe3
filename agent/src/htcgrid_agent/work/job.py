"""A chunk in the hands of the agent, from its claim to its conclusion."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from htcgrid_agent.work.task import TaskEnd
from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.lease_rules import (
    CAREFUL_AFTER,
    exceeds_lost_attempts,
)
from htcgrid_chunks.store import ChunkLease
from htcgrid_events import ChunkQueued, Priority


@dataclass(frozen=True, eq=False)
class Delivery:
    """A message that names a chunk, as received."""

    queued: ChunkQueued
    priority: Priority
    queue_url: str
    receipt: str
    message_id: str
    queued_at: int
    """When it was sent, in ms since the epoch."""
    received_at: int
    """When it was received, in ms since the epoch."""

    @property
    def ids(self) -> dict[str, object]:
        """What a log line says of it."""
        return {"session": self.queued.session_id, "chunk": self.queued.chunk}


@dataclass(eq=False)
class Job:
    """A chunk that is held. Its running belongs to the event loop; what it says of itself may be read anywhere."""

    delivery: Delivery
    chunk: Chunk
    """The row as claimed."""
    inputs: Sequence[bytes] = ()
    """JSON, one text per task of the chunk."""
    so_far: Sequence[bytes] = ()
    """What earlier attempts made of the tasks, one line per task."""
    pending: deque[int] = field(default_factory=deque)
    """Offsets of tasks that have not been started."""
    later: deque[int] = field(default_factory=deque)
    """Offsets of tasks that may only be started, one at a time, once the row says so: see `careful`."""
    ends: dict[int, TaskEnd] = field(default_factory=dict)
    """How the tasks of this attempt ended, by offset."""
    waiting: int = 0
    """How many of its tasks have not been started."""
    running: int = 0
    """How many of its tasks run."""
    started_at: int = 0
    finished_at: int = 0
    set_back: bool = False
    """Whether its payloads were out of reach, so that it has to wait."""
    marked: set[int] = field(default_factory=set)
    """Offsets of tasks that count as tried in the row from before they ran."""
    saved: int = 0
    """How many ends the last checkpoint held."""
    storing: threading.Lock = field(default_factory=threading.Lock)
    """Held while its results are put into the data plane."""
    stored: bool = False
    """Whether results of it lie in the data plane."""
    concluding: bool = False
    """Whether all its tasks have ended and only the last write to its row is left."""
    lost: bool = False
    """Whether another agent has taken it, or its session was cancelled: what it yields counts for nothing."""

    @property
    def careful(self) -> bool:
        """Whether agents keep dying over this chunk, so that its tasks are run one by one to find the culprit."""
        return self.chunk.died >= CAREFUL_AFTER

    @property
    def exceeds_lost_attempts(self) -> bool:
        """Whether agents died over this chunk so often, without a sign, that its tasks are not run any more."""
        return exceeds_lost_attempts(self.chunk, self.chunk.attempt - 1)

    @cached_property
    def held(self) -> ChunkLease:
        """The right to write its row."""
        return ChunkLease(self.chunk.key, self.chunk.owner, self.chunk.attempt)

    @property
    def ids(self) -> dict[str, object]:
        """What a log line says of it."""
        return {**self.delivery.ids, "attempt": self.chunk.attempt}
