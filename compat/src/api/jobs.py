"""What `AWSConnector.submit` takes: tasks with a session id, limits and a priority, as a dict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from htcgrid.errors import InvalidOption
from htcgrid.options import SubmitOptions, session_options

if TYPE_CHECKING:
    from htcgrid.options import JSON

TASK_TIMEOUT_SEC = 3600
"""Longest run of a task, unless `scheduler_data` says otherwise: as in the first HTC-Grid."""
RETRY_COUNT = 5
"""Retries of a task that failed, unless `scheduler_data` says otherwise: as in the first HTC-Grid."""

_LIMITS = {"task_timeout_sec": ("task_timeout", TASK_TIMEOUT_SEC), "retry_count": ("max_retries", RETRY_COUNT)}
"""From keys of `scheduler_data` to options of a session, and their defaults."""
_PRIORITIES = ("low", "normal", "high")
"""Of `tasks_priority` 0, 1, and 2 or more: there too a larger number goes first."""


@dataclass(frozen=True)
class Jobs:
    """A submission as its user wrote it."""

    session_id: str | None
    """None asks for a new one."""
    tasks: "Sequence[JSON]"
    options: SubmitOptions


def user_task_json(session_id: str, tasks: "Iterable[JSON]") -> dict[str, Any]:
    """The dict that `read_jobs` reads, with the limits of the first HTC-Grid."""
    return {
        "session_id": session_id,
        "scheduler_data": {"task_timeout_sec": TASK_TIMEOUT_SEC, "retry_count": RETRY_COUNT},
        "tasks_list": {"tasks": tasks},
    }


def read_jobs(jobs: Mapping[str, Any]) -> Jobs:
    """Read a submission.

    Raises:
        InvalidOption: a key is missing, or its value is illegal; names the key.
    """
    tasks_list = jobs.get("tasks_list") if isinstance(jobs, Mapping) else None
    if not isinstance(tasks_list, Mapping) or "session_id" not in jobs or "tasks" not in tasks_list:
        raise InvalidOption("there is no 'session_id' or no 'tasks_list': give what generate_user_task_json() made")
    options = _limits(_mapping(jobs, "scheduler_data"))
    if (priority := _priority(_mapping(jobs, "context"))) is not None:
        options["priority"] = priority
    return Jobs(_session_id(jobs["session_id"]), _in_memory(tasks_list["tasks"]), options)


def checked_session_id(given: object) -> str:
    """A session id, which may be any text. Raises `InvalidOption` for what is none."""
    if not isinstance(given, str) or not given:
        raise InvalidOption(f"session_id={given!r} is not legal: give a text that is not empty")
    return given


def _session_id(given: object) -> str | None:
    return None if given in (None, "None") else checked_session_id(given)


def _mapping(jobs: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = jobs.get(key) or {}
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{key}={value!r} is not legal: give a dict")
    return value


def _limits(scheduler_data: Mapping[str, Any]) -> SubmitOptions:
    limits = {}
    for key, (option, default) in _LIMITS.items():
        limits[option] = value = scheduler_data.get(key, default)
        try:
            session_options({option: value})
        except InvalidOption as error:
            legal = str(error).rpartition("is not legal: ")[2]
            raise InvalidOption(f"scheduler_data has {key}={value!r}, which is not legal: {legal}") from None
    return cast("SubmitOptions", limits)


def _priority(context: Mapping[str, Any]) -> str | None:
    level = context.get("tasks_priority")
    if level is None:
        return None
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise InvalidOption(f"context has tasks_priority={level!r}, which is not legal: give a whole number from 0 up")
    return _PRIORITIES[min(level, len(_PRIORITIES) - 1)]


def _in_memory(tasks: Any) -> "Sequence[JSON]":
    """Tasks as something that has a length. What is no list of tasks is refused when it is submitted."""
    if isinstance(tasks, Iterable) and not isinstance(tasks, Sequence | Mapping):
        return list(tasks)
    return cast("Sequence[JSON]", tasks)
