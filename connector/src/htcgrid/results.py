"""What comes back: values and errors of tasks, and when each passed the stages of its way."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htcgrid.errors import GridError, ResultsUnavailable, SessionCancelled, SessionTimedOut, TaskFailed

if TYPE_CHECKING:
    from htcgrid_events import ChunkOutcome, SessionState


@dataclass(frozen=True, slots=True)
class Completed:
    """One task with an outcome: its result, or the error that stands for it."""

    index: int
    """The task's number in its session, from 0."""
    result: Any = None
    """What the handler returned; none beside an error."""
    error: GridError | None = None
    """`TaskFailed`, `SessionCancelled`, `SessionTimedOut` or `ResultsUnavailable`; none beside a result."""

    def get(self) -> Any:
        """The result. Raises the error, if there is one."""
        if self.error is not None:
            raise self.error
        return self.result


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """When a task passed each stage, in ms since the epoch; 0 where it has not. Tasks of one chunk share them."""

    index: int
    submitted_at: int
    queued_at: int
    claimed_at: int
    started_at: int
    finished_at: int
    notified_at: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A finished chunk with its results as they came."""

    outcome: "ChunkOutcome"
    results: bytes | ResultsUnavailable | None
    """None where the grid keeps none, since no task of the chunk was run; an error where they are not to be had."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Tasks that have no outcome although the session has its verdict."""

    tasks: range
    state: "SessionState"


def opened(session_id: str, part: Arrival | Lost, ended_as: "SessionState | None") -> Iterator[Completed]:
    """The tasks of a part of a session. `ended_as` tells cancelled tasks why they were."""
    if isinstance(part, Lost):
        error = _not_run(session_id, part.state)
        return (Completed(index, error=error) for index in part.tasks)
    return _of_chunk(session_id, part, ended_as)


def _of_chunk(session_id: str, part: Arrival, ended_as: "SessionState | None") -> Iterator[Completed]:
    from htcgrid_dataplane import DataPlaneError, decode_lines

    outcome = part.outcome
    fault = part.results if isinstance(part.results, ResultsUnavailable) else None
    lines = [b""] * outcome.size
    if isinstance(part.results, bytes):
        try:
            lines = decode_lines(part.results, outcome.size)
        except DataPlaneError as error:
            what = f"the results of chunk {outcome.chunk} of session {session_id} are damaged"
            fault = ResultsUnavailable(f"{what}: {error}")
    if fault is not None:
        yield from (Completed(outcome.first_task + offset, error=fault) for offset in range(outcome.size))
        return
    for offset, (code, line) in enumerate(zip(outcome.outcomes, lines, strict=True)):
        index = outcome.first_task + offset
        if code == "X":
            yield Completed(index, error=_not_run(session_id, ended_as))
        elif code == "F":
            yield Completed(index, error=_failure(session_id, index, line, outcome))
        else:
            yield _value(session_id, index, line)


def _value(session_id: str, index: int, line: bytes) -> Completed:
    try:
        return Completed(index, json.loads(line))
    except ValueError:
        message = f"the result of task {index} of session {session_id} is damaged: {len(line)} bytes that are not JSON"
        return Completed(index, error=ResultsUnavailable(message))


def _failure(session_id: str, index: int, line: bytes, outcome: "ChunkOutcome") -> GridError:
    from pydantic import ValidationError

    from htcgrid_events import TaskError

    try:
        told = TaskError.model_validate_json(line)
    except ValidationError:
        message = f"task {index} of session {session_id} failed on {outcome.agent}, and why can no longer be read"
        return ResultsUnavailable(message)
    return TaskFailed(
        session_id=session_id,
        index=index,
        kind=told.kind.value,
        type=told.type,
        message=told.message,
        trace=told.trace,
        attempts=told.attempts,
        agent=told.agent,
    )


def _not_run(session_id: str, ended_as: "SessionState | None") -> GridError:
    state = None if ended_as is None else ended_as.value
    if state == "TIMED_OUT":
        return SessionTimedOut(f"session {session_id} reached its deadline before this task was done")
    if state in ("COMPLETED", "FAILED"):
        return ResultsUnavailable(f"session {session_id} has ended, but the grid no longer keeps this task's result")
    return SessionCancelled(f"session {session_id} was cancelled before this task was done")
