"""What a user may say of a submission, and the sentences about what he may not."""

import operator
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias, TypedDict

from htcgrid.errors import InvalidOption

if TYPE_CHECKING:
    from htcgrid_events import SessionOptions, SessionState

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"
"""What a task may be: anything that `json.dumps` writes, without NaN and infinities."""


class SubmitOptions(TypedDict, total=False):
    """The options of a session. All may be left out."""

    partition: str
    """Name of the pool of agents. Default: `default`."""

    priority: str
    """`high`, `normal` or `low`, before or behind the other sessions of the partition. Default: `normal`."""

    max_retries: int
    """How often a task that failed is run again, 0 to 20. Default: 2, so at most 3 attempts."""

    task_timeout: timedelta | float
    """Longest run of one task, a `timedelta` or seconds, 1 s to 12 h. Default: 15 minutes."""

    timeout: timedelta | float
    """Time from creation after which the session's open tasks are cancelled, up to 30 days. Default: one day."""

    retry_base: timedelta | float
    """Longest wait before the first retry, a `timedelta` or seconds, up to 1 h; waits are drawn at random below it.
    Default: 1 second."""

    retry_factor: float
    """By how much the longest wait grows with each retry, 1 to 10. Default: 2."""

    retry_cap: timedelta | float
    """Longest wait before any retry, a `timedelta` or seconds, up to 12 h. Default: 5 minutes."""

    non_retryable: Sequence[str]
    """Types of errors that are not tried again, such as `ValueError`. Default: `NonRetryableError` alone."""

    max_failures: int
    """The failure budget: once more tasks than this have failed for good, the session stops. Default: no limit."""

    max_failure_share: float
    """The same as a share of the session's tasks, 0 to 1, judged once all are submitted. Default: no limit."""

    publish_completions: bool
    """Whether every finished chunk is also put on the grid's event bus. Default: no."""

    publish_outcomes: bool
    """Whether what subscribers are pushed is also published on the grid's notification topic. Default: no."""


_FIELDS = {
    "partition": "partition",
    "priority": "priority",
    "max_retries": "max_retries",
    "task_timeout": "task_timeout_seconds",
    "timeout": "session_timeout_seconds",
    "retry_base": "retry_base_seconds",
    "retry_factor": "retry_factor",
    "retry_cap": "retry_cap_seconds",
    "non_retryable": "non_retryable",
    "max_failures": "max_failures",
    "max_failure_share": "max_failure_share",
    "publish_completions": "publish_completions",
    "publish_outcomes": "publish_outcomes",
}
_LEGAL = {
    "partition": "a name of up to 32 lower-case letters, digits and hyphens that begins with a letter",
    "priority": "'high', 'normal' or 'low'",
    "max_retries": "a whole number from 0 to 20",
    "task_timeout": "a timedelta or a number of seconds, whole seconds from 1 second to 12 hours",
    "timeout": "a timedelta or a number of seconds, whole seconds from 1 second to 30 days",
    "retry_base": "a timedelta or a number of seconds, up to 1 hour",
    "retry_factor": "a number from 1 to 10",
    "retry_cap": "a timedelta or a number of seconds, up to 12 hours",
    "non_retryable": "a list of up to 32 names of types, such as ['ValueError']",
    "max_failures": "a whole number from 0 up",
    "max_failure_share": "a number from 0 up to, but without, 1",
    "publish_completions": "True or False",
    "publish_outcomes": "True or False",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "partition": (str,),
    "priority": (str,),
    "max_retries": (int,),
    "task_timeout": (timedelta, int, float),
    "timeout": (timedelta, int, float),
    "retry_base": (timedelta, int, float),
    "retry_factor": (int, float),
    "retry_cap": (timedelta, int, float),
    "non_retryable": (list, tuple),
    "max_failures": (int,),
    "max_failure_share": (int, float),
    "publish_completions": (bool,),
    "publish_outcomes": (bool,),
}
"""Checked here, since the contract takes "5" for 5 and "yes" for True, which are more likely mistakes."""


def session_options(given: Mapping[str, object]) -> "SessionOptions":
    """The contract's options from the user's.

    Raises:
        InvalidOption: one is unknown, or its value is illegal; says what is legal.
    """
    from pydantic import ValidationError

    from htcgrid_events import SessionOptions

    unknown = sorted(given.keys() - _FIELDS.keys())
    if unknown:
        raise InvalidOption(f"there is no option {unknown[0]!r}; the options are {', '.join(sorted(_FIELDS))}")
    for name, value in given.items():
        if not _is_of(_TYPES[name], value):
            raise _illegal(name, value)
    values = {_FIELDS[name]: _seconds(value) for name, value in given.items()}
    try:
        return SessionOptions.model_validate(values)
    except ValidationError as error:
        fields = {field: name for name, field in _FIELDS.items()}
        name = fields[str(error.errors()[0]["loc"][0])]
        raise _illegal(name, given[name]) from None


def _is_of(types: tuple[type, ...], value: object) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))  # True is an int, but no number


def _illegal(name: str, value: object) -> InvalidOption:
    return InvalidOption(f"{name}={value!r} is not legal: give {_LEGAL[name]}")


def _seconds(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else value


def as_seconds(timeout: timedelta | float | None, name: str = "timeout") -> float | None:
    """How long to wait, in seconds; none is for ever. `name` is what the caller calls it.

    Raises:
        InvalidOption: it is negative or no length of time.
    """
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidOption(f"{name}={timeout!r} is not legal: give a timedelta or seconds from 0 up, or None")
    return float(seconds)


def check_session_id(given: object) -> None:
    """Raises `InvalidOption` for what is no text; a text that is no session's id is left to be not found."""
    if not isinstance(given, str):
        raise InvalidOption(f"session_id={given!r} is not legal: give a session's id, a text of 32 hexadecimal digits")


def session_state(given: "SessionState | str | None") -> "SessionState | None":
    """A state by its name, in capitals or not; none for any. Raises `InvalidOption` when there is no such state."""
    from htcgrid_events import SessionState

    if given is None:
        return None
    try:
        return SessionState(given.upper())
    except (ValueError, AttributeError):
        names = ", ".join(state.value for state in SessionState)
        raise InvalidOption(f"state={given!r} is not legal: give one of {names}, or None for any") from None


def as_timestamp(given: datetime | None, name: str) -> int | None:
    """A moment in ms since the epoch; one without a time zone is local time. Raises `InvalidOption` for no moment."""
    if given is None:
        return None
    if not isinstance(given, datetime):
        raise InvalidOption(f"{name}={given!r} is not legal: give a datetime, or None")
    return max(0, round(given.timestamp() * 1000))


def task_number(index: SupportsIndex) -> int:
    """A task's number as an `int`, also when it comes as that of another library.

    Raises:
        InvalidOption: it is no whole number.
    """
    wrong = f"index={index!r} is not legal: give a task's number in its session, a whole number from 0 up"
    if isinstance(index, bool):
        raise InvalidOption(wrong)
    try:
        return operator.index(index)
    except TypeError:
        raise InvalidOption(wrong) from None
