"""What comes back: values and errors of tasks, and when each passed the stages of its way."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from htcgrid.errors import GridError, ResultsUnavailable, SessionCancelled, SessionTimedOut, TaskFailed
from htcgrid.escaping import visible

if TYPE_CHECKING:
    from htcgrid_events import PartialOutcome, SessionState, StopReason


_SHOWN = Repr()  # of the standard library: a repr with limits
_SHOWN.maxstring = _SHOWN.maxother = 60
_SHOWN.maxlevel = 3


@dataclass(frozen=True, slots=True, repr=False)
class FinishedTask:
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

    def __repr__(self) -> str:
        if self.error is None:
            return f"<FinishedTask {self.index}: {visible(_SHOWN.repr(self.result))}>"
        from htcgrid_events.views import shortened

        said = f"{type(self.error).__name__}: {self.error}"
        return f"<FinishedTask {self.index}: {visible(shortened(said))}>"


@dataclass(frozen=True, slots=True, repr=False)
class TaskTimes:
    """When a task passed each stage, in ms since the epoch; 0 where it has not. Tasks of one chunk share them."""

    index: int
    submitted_at: int
    queued_at: int
    claimed_at: int
    started_at: int
    finished_at: int
    notified_at: int

    @property
    def wait_seconds(self) -> float:
        """From submission to the start of the attempt that counts."""
        return max(0, self.started_at - self.submitted_at) / 1000

    @property
    def run_seconds(self) -> float:
        """From that start to its end: of the whole chunk, where a chunk has several tasks."""
        return max(0, self.finished_at - self.started_at) / 1000

    def __repr__(self) -> str:
        return f"<TaskTimes of task {self.index}: waited {self.wait_seconds:.3f} s, ran {self.run_seconds:.3f} s>"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Tasks of a chunk with their results as they came."""

    outcome: "PartialOutcome"
    """Its letter `Q` stands for a task that is not told of here."""
    results: bytes | ResultsUnavailable | None
    """None where the grid keeps none, since no task of the chunk was run; an error where they are not to be had."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Tasks that have no outcome although the session has its verdict."""

    tasks: range
    state: "SessionState"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended, or will: what cancelled tasks fell under."""

    state: "SessionState"
    reason: "StopReason | None" = None


@dataclass(frozen=True, slots=True)
class Part:
    """Tasks of a session that became known together; they are decoded as they are iterated over."""

    session_id: str
    found: Arrival | Lost
    ending: Ending | None = None
    """Known where tasks were cancelled or lost."""

    def __iter__(self) -> Iterator[FinishedTask]:
        if isinstance(self.found, Lost):
            error = _not_run(self.session_id, self.ending or Ending(self.found.state))
            return (FinishedTask(index, error=error) for index in self.found.tasks)
        return _of_chunk(self.session_id, self.found, self.ending)

    @property
    def size(self) -> int:
        """How many tasks."""
        if isinstance(self.found, Lost):
            return len(self.found.tasks)
        return self.found.outcome.size - self.found.outcome.outcomes.count("Q")

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return 0 if isinstance(self.found, Lost) else self.found.outcome.outcomes.count("F")


def _of_chunk(session_id: str, part: Arrival, ending: Ending | None) -> Iterator[FinishedTask]:
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
        for offset, code in enumerate(outcome.outcomes):
            if code != "Q":
                yield FinishedTask(outcome.first_task + offset, error=fault)
        return
    for offset, (code, line) in enumerate(zip(outcome.outcomes, lines, strict=True)):
        index = outcome.first_task + offset
        if code == "Q":
            continue
        if code == "X":
            yield FinishedTask(index, error=_not_run(session_id, ending))
        elif code == "F":
            yield FinishedTask(index, error=_failure(session_id, index, line, outcome))
        else:
            yield _value(session_id, index, line)


def _value(session_id: str, index: int, line: bytes) -> FinishedTask:
    try:
        return FinishedTask(index, json.loads(line))
    except RecursionError:
        why = "it is nested too deeply for Python's recursion limit, see sys.setrecursionlimit"
    except ValueError as error:
        from htcgrid_events.views import counted

        why = f"it is damaged, {counted(len(line), 'byte')} of text that is not JSON: {error}"
    message = f"the result of task {index} of session {session_id} cannot be read: {why}"
    return FinishedTask(index, error=ResultsUnavailable(message))


def _failure(session_id: str, index: int, line: bytes, outcome: "PartialOutcome") -> GridError:
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
        host=told.host,
        history=told.history,
    )


def _not_run(session_id: str, ending: Ending | None) -> GridError:
    state = None if ending is None else ending.state.value
    reason = None if ending is None or ending.reason is None else ending.reason.value
    if state == "TIMED_OUT" or reason == "timed_out":
        return SessionTimedOut(f"session {session_id} reached its deadline before this task was done")
    if reason == "failures":
        what = f"session {session_id} was stopped before this task was done"
        return SessionCancelled(f"{what}: more of its tasks failed than its failure budget allows")
    if state in ("COMPLETED", "FAILED"):
        return ResultsUnavailable(f"session {session_id} has ended, but the grid no longer keeps this task's result")
    return SessionCancelled(f"session {session_id} was cancelled before this task was done")
