"""The options of a session, which its user chooses when it is created."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from htcgrid_events.model import Contract, Flag, Real, Whole

NON_RETRYABLE = "NonRetryableError"
"""An error of this type is never tried again, in whatever session and language: a handler raises a class of this name
to say that trying again is of no use."""

ErrorType = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Priority(StrEnum):
    """The queue of its partition in which a session's chunks wait."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class RetryPolicy(Contract):
    """Which failed tasks are run again, and after how long a wait.

    The wait before retry n (1, 2, …) is uniform between 0 and min(cap, base * factor ** (n - 1)): full jitter
    ("Exponential Backoff And Jitter", AWS Architecture Blog).
    """

    max_retries: Annotated[Whole, Field(ge=0, le=20)] = 2
    """How often a task that failed is run again. Default: 2, so at most 3 attempts."""

    retry_base_seconds: Annotated[Real, Field(ge=0, le=3_600)] = 1.0
    """Longest wait before the first retry, in seconds. Default: 1."""

    retry_factor: Annotated[Real, Field(ge=1, le=10)] = 2.0
    """By how much the longest wait grows with each retry. Default: 2."""

    retry_cap_seconds: Annotated[Real, Field(ge=0, le=43_200)] = 300.0
    """Longest wait before any retry, in seconds. Default: 300; at most 12 h, the longest SQS visibility."""

    non_retryable: Annotated[tuple[ErrorType, ...], Field(max_length=32)] = ()
    """Types of errors that are not tried again, such as `ValueError`; `NonRetryableError` never is."""

    def may_retry(self, error_type: str) -> bool:
        """Whether a task that failed with an error of this type may be tried again, if retries are left."""
        return error_type != NON_RETRYABLE and error_type not in self.non_retryable


class SessionOptions(RetryPolicy):
    """How the grid treats the tasks of one session."""

    partition: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")] = "default"
    """Name of the pool of agents. Default: `default`."""

    priority: Priority = Priority.NORMAL
    """`high`, `normal` or `low`. Default: `normal`."""

    task_timeout_seconds: Annotated[Whole, Field(ge=1, le=43_200)] = 900
    """Longest run of one task, in seconds. Default: 900, as on Lambda; at most 12 h, the longest SQS visibility."""

    session_timeout_seconds: Annotated[Whole, Field(ge=1, le=30 * 86_400)] = 86_400
    """Time from creation after which open tasks are cancelled and the verdict is TIMED_OUT. Default: one day."""

    max_failures: Annotated[Whole, Field(ge=0)] | None = None
    """The failure budget: once more tasks than this have failed for good, the session stops. Default: no limit."""

    max_failure_share: Annotated[Real, Field(ge=0, lt=1)] | None = None
    """The same as a share of the session's tasks, judged once the session is closed. Default: no limit."""

    publish_completions: Flag = False
    """Whether every finished chunk is also put on the event bus. Default: no."""

    publish_outcomes: Flag = False
    """Whether what subscribers are pushed is also published on the notification topic. Default: no."""

    @property
    def has_budget(self) -> bool:
        """Whether failures are counted against a budget."""
        return self.max_failures is not None or self.max_failure_share is not None
