"""A task as a worker sees it: one of a batch, and how it ended."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from htcgrid_events import FailureKind


@dataclass(frozen=True, slots=True)
class Completed:
    """A task's result: one line of JSON."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """A try of a task that failed, and why."""

    kind: FailureKind
    type: str
    message: str
    trace: tuple[str, ...] = ()
    started_at: int = 0
    """When the try began, in ms since the epoch; 0 where it never did."""
    ended_at: int = 0
    noted: bool = False
    """Whether the row already counts this try, because the task was marked before it ran."""
    final: bool = False
    """Whether the task is not retried, whatever the session's retry policy says."""


TaskEnd = Completed | Failed

AGENT_LOST = Failed(FailureKind.LOST, "Agent.Lost", "The agent was lost while it ran the task.")
"""How a task ended that killed its agent."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task that is to be run."""

    number: int
    """Its place in the session."""
    event: bytes
    """JSON, one line."""


class BatchOwner(Protocol):
    """Gives batches to workers. Its methods are called in the event loop, except for batches that were given up."""

    def task_ended(self, batch: "Batch", task: Task, end: TaskEnd, seconds: float) -> None:
        """A task ended after this many seconds, and was removed from the batch."""

    def tasks_returned(self, batch: "Batch", tasks: Sequence[Task]) -> None:
        """The last tasks of a batch were not started, and were removed from the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tasks of one chunk that one worker runs one after the other."""

    session_id: str
    chunk: int
    attempt: int
    timeout_seconds: int
    """Longest run of each task, in seconds."""
    tasks: deque[Task]
    """The tasks that have not ended. Only the first can have been started, as far as the agent knows."""
    owner: BatchOwner
