"""One finished task as one line of JSON, or as the cells of a row."""

from typing import TYPE_CHECKING, Any

from htcgrid.errors import TaskFailed
from htcgrid.escaping import json_text

if TYPE_CHECKING:
    from htcgrid.errors import GridError
    from htcgrid.results import FinishedTask


def line_of(task: "FinishedTask") -> str:
    """`{"index": 0, "result": …}`, or `{"index": 0, "error": {…}}` for a task without a result."""
    value: dict[str, Any] = {"index": task.index}
    if task.error is None:
        value["result"] = task.result
    else:
        value["error"] = error_of(task.error)
    try:
        return json_text(value)
    except RecursionError:
        return json_text({"index": task.index, "error": TOO_DEEP})


def error_of(error: "GridError") -> dict[str, Any]:
    """What stands for a result that is not there. `kind` tells what ended a task that failed, or what else happened."""
    if not isinstance(error, TaskFailed):
        return {"kind": _KINDS.get(type(error).__name__, "unavailable"), "message": str(error)}
    return {
        "kind": error.kind,
        "type": error.type,
        "message": error.message,
        "trace": [line.rstrip("\n") for line in error.trace],
        "attempts": error.attempts,
        "agent": error.agent,
    }


TOO_DEEP = {"kind": "unavailable", "message": "the result is nested too deeply to be written"}
"""The error that stands for a result that `json` cannot write again."""

_KINDS = {"SessionCancelled": "cancelled", "SessionTimedOut": "timed_out"}
