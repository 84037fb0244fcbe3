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

    publish_completions: bool
    """Whether every finished chunk is also put on the grid's event bus. Default: no."""


_FIELDS = {
    "partition": "partition",
    "priority": "priority",
    "max_retries": "max_retries",
    "task_timeout": "task_timeout_seconds",
    "timeout": "session_timeout_seconds",
    "publish_completions": "publish_completions",
}
_LEGAL = {
    "partition": "a name of up to 32 lower-case letters, digits and hyphens that begins with a letter",
    "priority": "'high', 'normal' or 'low'",
    "max_retries": "a whole number from 0 to 20",
    "task_timeout": "a timedelta or a number of seconds, whole seconds from 1 second to 12 hours",
    "timeout": "a timedelta or a number of seconds, whole seconds from 1 second to 30 days",
    "publish_completions": "True or False",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "partition": (str,),
    "priority": (str,),
    "max_retries": (int,),
    "task_timeout": (timedelta, int, float),
    "timeout": (timedelta, int, float),
    "publish_completions": (bool,),
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
