"""The states that users see. Which may follow which is a rule of the control plane, not of the contract."""

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is on its way."""

    SUBMITTED = "SUBMITTED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRY = "RETRY"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class SessionState(StrEnum):
    """Where a session is on its way; the last four are verdicts."""

    OPEN = "OPEN"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def ended(self) -> bool:
        """Whether this state is a verdict."""
        return self not in (SessionState.OPEN, SessionState.RUNNING)


class OutcomeCode(StrEnum):
    """One letter per task of a chunk: what is known of its outcome. A chunk's `outcomes` is a string of these."""

    OPEN = "Q"
    COMPLETED = "C"
    FAILED = "F"
    CANCELLED = "X"
