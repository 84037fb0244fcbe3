"""Which state of a task or session may follow which. The only home of this rule: storage code encodes it as conditions.

An outcome or a verdict is left in one way only: by a redrive of tasks that have failed.
"""

from htcgrid_events import SessionState, TaskState

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
