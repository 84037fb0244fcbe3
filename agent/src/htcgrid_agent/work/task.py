"""A task as workers see it: one of a batch that is given to a worker, and an end that says what became of it."""

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
    """Whether the row counts and tells of this try already: of a task that was marked before it ran."""
    final: bool = False
    """Whether the task is not tried again, whatever its session says."""


TaskEnd = Completed | Failed

AGENT_LOST = Failed(FailureKind.LOST, "Agent.Lost", "The agent was lost while it ran the task.")
"""The end of a task that kills its agent."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task that is to be run."""

    number: int
    """Its place in the session."""
    event: bytes
    """JSON, one line."""


class BatchOwner(Protocol):
    """Who gives batches to workers: told, in the event loop, what becomes of their tasks, unless they were given up."""

    def task_ended(self, batch: "Batch", task: Task, end: TaskEnd, seconds: float) -> None:
        """A task ran for so long. It is no longer among the batch's."""

    def tasks_returned(self, batch: "Batch", tasks: Sequence[Task]) -> None:
        """The last tasks of a batch have not been begun, and are no longer among the batch's."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tasks of one chunk in the hands of one worker, which runs them one after the other."""

    session_id: str
    chunk: int
    attempt: int
    timeout_seconds: int
    """How long each of them may run."""
    tasks: deque[Task]
    """Those that have not ended. Only the first of them can have been begun, as far as is known here."""
    owner: BatchOwner
