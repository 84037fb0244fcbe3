"""A task as workers see it: an invocation that begins, and an end that says what became of it."""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class Invocation:
    """One run of one task on one worker."""

    request_id: str
    event: bytes
    """JSON."""
    timeout_seconds: int
    session_id: str
    task: int
    chunk: int
    attempt: int
    ended: "Callable[[Invocation, TaskEnd], None]"
    """Told, in the event loop, how the invocation ended; not told when it was given up."""
