"""The options of submissions and calls: what is legal, and the errors that say so."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypeAlias, TypedDict, get_args

from htcgrid.errors import InvalidOption, SessionNotFound
from htcgrid.option_table import BY_NAME, OPTIONS, Kind, Option

if TYPE_CHECKING:
    from htcgrid_events import SessionOptions, SessionState

JSON: TypeAlias = "Mapping[str, object] | Sequence[object] | str | int | float | bool | None"
"""What a task may be: anything that `json.dumps` writes, without NaN and infinities. What lies inside of mappings and
sequences is checked when it is submitted, so that a `TypedDict` or a `dict[str, object]` needs no cast."""

Order = Literal["submitted", "completed"]
"""In which order results come: that of their tasks, or that in which they finish."""

Notifications = Literal["auto", "websocket", "sns", "poll"]
"""How finished tasks become known.

`websocket`: the grid pushes them. `sns`: they come from the grid's notification topic by a queue that is made for this
client, for programs with AWS credentials of their own (extra `aws`); of sessions that others created the grid is asked.
`poll`: the grid is asked, after 0.2 s at first and 5 s at last. `auto`: by WebSocket, and by asking for as long as none
is open; it never fails, while the others are refused where they cannot be had.
"""

OnExit = Literal["cancel_on_error", "cancel", "keep"]
"""What becomes of a session whose `with` block is left: `cancel_on_error` cancels it when an error leaves the block and
else lets it go on; `cancel` always cancels what is still open; `keep` lets it go on whatever happens. What goes on is
closed, so that it will have a verdict."""


class SubmitOptions(TypedDict, total=False):
    """The options of a session. All may be left out."""

    partition: str
    """Name of the pool of agents. Default: `default`."""

    priority: str
    """`high`, `normal` or `low`, before or behind the other sessions of the partition. Default: `normal`."""

    max_retries: int
    """How often a task that failed is run again, 0 to 20. Default: 2, so at most 3 attempts."""

    retry_base: timedelta | float
    """Longest wait before the first retry, a `timedelta` or seconds, up to 1 h. Default: 1 s. The wait before a retry
    is a random part of its longest wait."""

    retry_factor: float
    """By how much the longest wait grows with each retry, 1 to 10. Default: 2."""

    retry_cap: timedelta | float
    """Longest wait before any retry, a `timedelta` or seconds, up to 12 h. Default: 5 minutes."""

    non_retryable: "Collection[str | type[BaseException]]"
    """Errors after which a task is not run again: their types, or the names of these, up to 32. A subclass must be
    named as well. An error whose type is called `NonRetryableError` is never retried. Default: none."""

    max_failures: int
    """The failure budget: once more tasks than this have failed for good, the session stops. Default: no limit."""

    max_failure_share: float
    """The same as a share of the session's tasks, from 0 to below 1, judged once the session is closed. Default: no
    limit."""

    task_timeout: timedelta | float
    """Longest run of one task, a `timedelta` or seconds, 1 s to 12 h. Default: 15 minutes."""

    timeout: timedelta | float
    """Time from creation after which the session's open tasks are cancelled, up to 30 days. Default: one day."""

    publish_completions: bool
    """Whether every finished chunk is also put on the grid's event bus. Default: no."""

    publish_outcomes: bool
    """Whether what subscribers are pushed is also published on the grid's notification topic. Default: no."""


ID_LENGTH = 32
"""Hexadecimal digits of a session's id."""

_FEWEST_DIGITS = 4
"""Of an id's beginning. Progress bars show 8."""


def session_options(given: Mapping[str, object]) -> "SessionOptions":
    """The contract's options from the user's.

    Raises:
        InvalidOption: one is unknown, or its value is illegal; says what is legal.
    """
    from pydantic import ValidationError

    from htcgrid_events import SessionOptions

    unknown = sorted(given.keys() - BY_NAME.keys())
    if unknown:
        raise InvalidOption(f"there is no option {unknown[0]!r}; the options are {', '.join(sorted(BY_NAME))}")
    for name, value in given.items():
        if not _is_of(BY_NAME[name].types, value):
            raise _illegal(name, value)
    values = {BY_NAME[name].contract_field: _as_sent(BY_NAME[name], value) for name, value in given.items()}
    try:
        return SessionOptions.model_validate(values)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        name = next(option.name for option in OPTIONS if option.contract_field == field)
        raise _illegal(name, given[name]) from None


def _is_of(types: tuple[type, ...], value: object) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))  # True is an int, but no number


def _illegal(name: str, value: object) -> InvalidOption:
    return InvalidOption(f"{name}={value!r} is not legal: give {BY_NAME[name].legal}")


def _as_sent(option: Option, value: object) -> object:
    """A value as the contract has it."""
    if option.kind is Kind.ERRORS and isinstance(value, Iterable):
        return tuple(_error_type(error) for error in value)
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if option.kind is Kind.WHOLE_DURATION and isinstance(seconds, float) and seconds.is_integer():
        return int(seconds)
    return seconds


def _error_type(error: object) -> object:
    """The name by which the grid knows an exception: that of its class, without its module, as Lambda reports it."""
    return error.__name__ if isinstance(error, type) and issubclass(error, BaseException) else error


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


def session_id_or_none(given: str | None) -> str | None:
    """The id of a submission to be repeated, if any. Raises `InvalidOption` for what is no id."""
    if given is None:
        return None
    plain = plain_id(given)
    if plain is None or len(plain) < ID_LENGTH:
        raise InvalidOption(f"session_id={given!r} is not legal: give the id of an earlier submission, or None")
    return plain


def session_id_of(given: str) -> str:
    """The id of a session or its beginning, as the grid writes it.

    Raises:
        InvalidOption: it is no text, or too short for a beginning.
        SessionNotFound: it is neither.
    """
    if not isinstance(given, str):
        raise InvalidOption(f"session_id={given!r} is not legal: give a session's id, a text of 32 hexadecimal digits")
    plain = plain_id(given)
    if plain is None:
        raise SessionNotFound(given)
    if len(plain) < _FEWEST_DIGITS:
        fewest = f"give {_FEWEST_DIGITS} digits or more"
        raise InvalidOption(f"{plain} is too short for the beginning of a session's id: {fewest}")
    return plain


def session_ids_of(given: Iterable[str] | None) -> list[str] | None:
    """The ids of several sessions or their beginnings; none for all. Raises as `session_id_of` does, but
    `InvalidOption` for what is no list of ids."""
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidOption(f"session_ids={given!r} is not legal: give a list of sessions' ids, or None for all")
    try:
        return list(dict.fromkeys(session_id_of(each) for each in given))
    except SessionNotFound as error:
        raise InvalidOption(f"{error.session_id!r} is no session's id, which has 32 hexadecimal digits") from None


def plain_id(given: object) -> str | None:
    """A session's id or its beginning without dashes and in lower case, as the grid writes it; None if it is neither.
    Other programs show the same id in capitals or with the dashes of a UUID."""
    plain = given.strip().replace("-", "").lower() if isinstance(given, str) else ""
    return plain if 0 < len(plain) <= ID_LENGTH and set(plain) <= set("0123456789abcdef") else None


def check_order(given: str) -> None:
    """Raises `InvalidOption` for an order that there is not."""
    if given not in get_args(Order):
        raise InvalidOption(f"order={given!r} is not legal: give 'submitted' or 'completed'")


def check_notifications(given: str) -> None:
    """Raises `InvalidOption` for a way of notification that there is not."""
    if given not in get_args(Notifications):
        ways = ", ".join(map(repr, get_args(Notifications)))
        raise InvalidOption(f"notifications={given!r} is not legal: give one of {ways}")


def check_on_exit(given: str) -> None:
    """Raises `InvalidOption` for what cannot be done on leaving a block."""
    if given not in get_args(OnExit):
        raise InvalidOption(f"on_exit={given!r} is not legal: give 'cancel_on_error', 'cancel' or 'keep'")


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


def as_moment(given: datetime | None, name: str) -> str | None:
    """A moment in ms since the epoch, in 13 digits; one without a time zone is local time.

    Raises:
        InvalidOption: it is no moment.
    """
    if given is None:
        return None
    if not isinstance(given, datetime):
        raise InvalidOption(f"{name}={given!r} is not legal: give a datetime, or None")
    return f"{max(0, round(given.timestamp() * 1000)):013d}"


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
