"""Tasks that failed for good, kept for inspection and redrive."""

import json
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from htcgrid_events.limits import MAX_TASK_BYTES
from htcgrid_events.model import After, AtMost, BucketNumber, Contract, Request, TaskIndex, TimestampMs, Written
from htcgrid_events.outcome import FailureKind
from htcgrid_events.views import Shown, counted, moment, shortened

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""Names a kind of failure: equal for failures of the same type whose topmost frames are the same but for numbers and
addresses."""

MAX_TASKS_PER_REQUEST = 1_000
"""Most tasks that one request names."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


class DeadLetter(Shown, Contract):
    """Tasks of one chunk that failed for good in the same way."""

    chunk: Annotated[int, Field(ge=0)]
    fingerprint: Fingerprint
    kind: FailureKind
    type: str
    message: str
    """Of the first of these tasks, shortened. The whole error of each is in its task record."""
    tasks: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Their indexes within the session."""
    attempts: int
    """How often the first of them was tried."""
    agent: str
    host: str
    recorded_at: TimestampMs

    def _summary(self) -> str:
        tasks = counted(len(self.tasks), "task")
        return f"of {tasks} from task {self.tasks[0]} on, {self.kind.value}: {self.type}: {shortened(self.message)}"

    def _details(self) -> dict[str, object]:
        return {
            "tasks": len(self.tasks),
            "first task": self.tasks[0],
            "kind": self.kind.value,
            "error": f"{self.type}: {self.message}",
            "attempts": self.attempts,
            "agent": self.agent,
            "host": self.host,
            "recorded": moment(self.recorded_at),
            "fingerprint": self.fingerprint,
        }


class DeadLetterPage(Contract):
    """`GET /sessions/{session_id}/dead-letters?bucket=&after=`: a session's dead letters, in the order of chunks."""

    letters: tuple[DeadLetter, ...]
    next_bucket: int | None = None
    """With `next_after` where to go on; none at the end."""
    next_after: int | None = None


class _Selection(Request):
    """Which dead letters: all of the session, those of one fingerprint, or those of some tasks."""

    fingerprint: Fingerprint | None = None
    tasks: (
        Annotated[
            tuple[TaskIndex, ...],
            Field(min_length=1, max_length=MAX_TASKS_PER_REQUEST),
            BeforeValidator(AtMost(MAX_TASKS_PER_REQUEST)),
        ]
        | None
    ) = None
    bucket: BucketNumber = 0
    after: After = -1
    """Where to go on, as the former answer said."""


class RedriveTasks(_Selection):
    """`POST /sessions/{session_id}/dead-letters/redrive`: run tasks again, in a session that reopens if it has ended.
    A request goes as far as its time allows; its answer says where to go on."""

    events: Annotated[
        dict[Annotated[TaskIndex, Written], Annotated[str, Field(max_length=MAX_TASK_BYTES)]],
        Field(max_length=MAX_TASKS_PER_REQUEST),
        BeforeValidator(AtMost(MAX_TASKS_PER_REQUEST)),
    ] = Field(default_factory=dict)
    """JSON texts with which tasks (by their index) run instead of their own events."""

    @field_validator("events")
    @classmethod
    def _json(cls, events: dict[int, str]) -> dict[int, str]:
        for index, event in events.items():
            try:
                json.loads(event, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"the event for task {index} is not JSON: {error}") from error
        return events

    @model_validator(mode="after")
    def _selected(self) -> "RedriveTasks":
        if self.tasks is not None and not self.events.keys() <= set(self.tasks):
            raise ValueError("an event is given for a task that is not among those to be redriven")
        return self


class PurgeTasks(_Selection):
    """`POST /sessions/{session_id}/dead-letters/purge`: forget dead letters. Their tasks stay failed."""


class DeadLettersDone(Contract):
    """What a redrive or purge has done, and where it goes on."""

    tasks: Annotated[int, Field(ge=0)]
    """How many tasks were redriven or forgotten."""
    busy: Annotated[int, Field(ge=0)] = 0
    """How many were left alone by a redrive, since other tasks of their chunk are being run: repeat it later."""
    next_bucket: int | None = None
    next_after: int | None = None
