"""What a user may say of a session when creating it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from htcgrid_events.model import Contract


class Priority(StrEnum):
    """The queue of its partition in which a session's chunks wait."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class SessionOptions(Contract):
    """How the grid treats the tasks of one session."""

    partition: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")] = "default"
    """Name of the pool of agents. Default: `default`."""

    priority: Priority = Priority.NORMAL
    """`high`, `normal` or `low`. Default: `normal`."""

    max_retries: Annotated[int, Field(ge=0, le=20)] = 2
    """How often a task that failed is run again. Default: 2, so at most 3 attempts."""

    task_timeout_seconds: Annotated[int, Field(ge=1, le=43_200)] = 900
    """Longest run of one task, in seconds. Default: 900, as on Lambda; at most 12 h, the longest SQS visibility."""

    session_timeout_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 86_400
    """Time from creation after which open tasks are cancelled and the verdict is TIMED_OUT. Default: one day."""

    publish_completions: bool = False
    """Whether every finished chunk is also put on the event bus. Default: no."""
