"""Which state may follow which. The only home of this rule: storage code encodes it as conditions.

An outcome or a verdict is left in one way only: by a redrive of tasks that have failed.
"""

from enum import StrEnum

from htcgrid_events import SessionState, TaskState


class ChunkState(StrEnum):
    """The state of a chunk's row. The outcomes of its tasks are kept beside it, a letter each."""

    QUEUED = "QUEUED"
    HELD = "HELD"
    """Its session is paused: it has no message and cannot be claimed."""
    RUNNING = "RUNNING"
    RETRY = "RETRY"
    FINISHED = "FINISHED"


_OPEN_TASK = frozenset({TaskState.SUBMITTED, TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRY})

TASK_TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.SUBMITTED: frozenset({TaskState.QUEUED, TaskState.CANCELLED}),
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED}),
    TaskState.RUNNING: frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.RETRY, TaskState.CANCELLED}),
    TaskState.RETRY: frozenset({TaskState.RUNNING, TaskState.CANCELLED}),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset(),
}

SESSION_TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    SessionState.OPEN: frozenset(
        {SessionState.RUNNING, SessionState.FAILED, SessionState.CANCELLED, SessionState.TIMED_OUT}
    ),
    SessionState.RUNNING: frozenset(
        {SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED, SessionState.TIMED_OUT}
    ),
    SessionState.COMPLETED: frozenset(),
    SessionState.FAILED: frozenset({SessionState.RUNNING}),
    SessionState.CANCELLED: frozenset({SessionState.RUNNING}),
    SessionState.TIMED_OUT: frozenset({SessionState.RUNNING}),
}

CHUNK_TRANSITIONS: dict[ChunkState, frozenset[ChunkState]] = {
    ChunkState.QUEUED: frozenset({ChunkState.RUNNING, ChunkState.HELD, ChunkState.FINISHED}),
    ChunkState.HELD: frozenset({ChunkState.QUEUED, ChunkState.FINISHED}),
    ChunkState.RUNNING: frozenset({ChunkState.RUNNING, ChunkState.RETRY, ChunkState.FINISHED}),
    ChunkState.RETRY: frozenset({ChunkState.RUNNING, ChunkState.HELD, ChunkState.FINISHED}),
    ChunkState.FINISHED: frozenset({ChunkState.QUEUED, ChunkState.HELD}),
}


def is_open(state: TaskState) -> bool:
    """Whether a task in this state has no outcome yet."""
    return state in _OPEN_TASK
