"""A claimed chunk while the agent works on it."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from htcgrid_agent.work.task import TaskEnd
from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.lease_rules import (
    CAREFUL_AFTER,
    exceeds_lost_attempts,
)
from htcgrid_chunks.store import ChunkLease
from htcgrid_events import ChunkQueued, Priority, WorkDone


class DataHold(Protocol):
    """The right to use shared data, which stays where it is meanwhile."""

    def release(self) -> None:
        """Give the right back. To be called once."""


@dataclass(frozen=True, eq=False)
class Delivery:
    """A received message that names a chunk."""

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
        """The ids for log lines."""
        return {"session": self.queued.session_id, "chunk": self.queued.chunk}


@dataclass(eq=False)
class Job:
    """A claimed chunk. The event loop alone changes how its tasks run; other threads may read it."""

    delivery: Delivery
    chunk: Chunk
    """The row as claimed."""
    inputs: Sequence[bytes] = ()
    """JSON, one text per task of the chunk."""
    earlier_results: Sequence[bytes] = ()
    """The results of earlier attempts, one line per task, empty where there is none."""
    pending: deque[int] = field(default_factory=deque)
    """Offsets of tasks that have not been started."""
    isolated: deque[int] = field(default_factory=deque)
    """Offsets of tasks that are run one at a time, each marked in the row before it starts: see `careful`."""
    ends: dict[int, TaskEnd] = field(default_factory=dict)
    """How the tasks of this attempt ended, by offset."""
    result_bytes: int = 0
    """Size of all results so far, as `results_size` counts it."""
    waiting: int = 0
    """How many of its tasks have not been started."""
    running: int = 0
    """How many of its tasks run."""
    ran: int = 0
    """How many of its tasks workers ran to an end."""
    worker_seconds: float = 0.0
    """How long workers were busy with these."""
    started_at: int = 0
    finished_at: int = 0
    inputs_unavailable: bool = False
    """Whether its inputs could not be read for now, so that it is retried after a backoff."""
    marked: set[int] = field(default_factory=set)
    """Offsets of tasks that the row counts as tried since before they ran."""
    saved: int = 0
    """How many task ends the last checkpoint contained."""
    data: list[DataHold] = field(default_factory=list)
    """What its tasks use of shared data."""
    storing: threading.Lock = field(default_factory=threading.Lock)
    """Locked while its results are put into the data plane."""
    stored: bool = False
    """Whether results of it lie in the data plane."""
    concluding: bool = False
    """Whether all its tasks have ended and only the final write to its row is left."""
    lost: bool = False
    """Whether its lease is lost, to another attempt or because its session was cancelled: its results are discarded."""

    def release_data(self) -> None:
        """None of its tasks runs any more, here."""
        while self.data:
            self.data.pop().release()

    @property
    def careful(self) -> bool:
        """Whether earlier attempts died with their agents, so that tasks are run one by one to find the cause."""
        return self.chunk.died >= CAREFUL_AFTER

    @property
    def exceeds_lost_attempts(self) -> bool:
        """Whether so many attempts died that the tasks of this chunk are not run any more."""
        return exceeds_lost_attempts(self.chunk, self.chunk.attempt - 1)

    @property
    def stored_bytes(self) -> int:
        """Announced size of its payloads in the data plane."""
        return sum(payload.stored_bytes or 0 for payload in (self.chunk.inputs, self.chunk.results))

    @cached_property
    def lease(self) -> ChunkLease:
        """The right to write its row."""
        return ChunkLease(self.chunk.key, self.chunk.owner, self.chunk.attempt)

    @property
    def work_done(self) -> WorkDone:
        """What workers did for it."""
        return WorkDone(tasks=self.ran, worker_us=round(self.worker_seconds * 1_000_000))

    @property
    def ids(self) -> dict[str, object]:
        """The ids for log lines."""
        return {**self.delivery.ids, "attempt": self.chunk.attempt}
