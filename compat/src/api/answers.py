"""The answers of the first HTC-Grid's connector, made of what this grid tells of sessions and tasks."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htcgrid.errors import GridError, SessionCancelled, SessionTimedOut, TaskFailed

if TYPE_CHECKING:
    from htcgrid.results import FinishedTask

_STATES = ("finished", "cancelled", "failed")


@dataclass(frozen=True)
class NumberedTask:
    """A task that has ended, by its number in the user's session."""

    number: int
    task: "FinishedTask"


def submission_answer(session_id: str, numbers: Iterable[int]) -> dict[str, Any]:
    """What `send` answers."""
    return {"session_id": session_id, "task_ids": [_task_id(session_id, number) for number in numbers]}


def results_answer(session_id: str, tasks: Iterable[NumberedTask]) -> dict[str, Any]:
    """What `get_results` answers."""
    answer: dict[str, Any] = {key: [] for state in _STATES for key in (state, f"{state}_OUTPUT")}
    count = 0
    for found in sorted(tasks, key=lambda found: found.number):
        error = found.task.error
        state = _state(error)
        answer[state].append(_task_id(session_id, found.number))
        answer[f"{state}_OUTPUT"].append(json.dumps(found.task.result) if error is None else _reason(error))
        count += 1
    return {**answer, "metadata": {"tasks_in_response": count}}


def cancellation_answer(pending: int = 0, processing: int = 0) -> dict[str, int]:
    """What `cancel_sessions` answers of each session."""
    return {
        "cancelled_pending": pending,
        "cancelled_processing": processing,
        "total_cancelled_tasks": pending + processing,
    }


def _task_id(session_id: str, number: int) -> str:
    return f"{session_id}_{number}"


def _state(error: GridError | None) -> str:
    if error is None:
        return "finished"
    return "cancelled" if isinstance(error, SessionCancelled | SessionTimedOut) else "failed"


def _reason(error: GridError) -> str:
    if not isinstance(error, TaskFailed):
        return str(error)
    return "\n".join((f"{error.type}: {error.message}", *(line.rstrip("\n") for line in error.trace)))
