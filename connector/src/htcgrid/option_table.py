"""The options of a session, each in one row: what it means, what is legal and what holds if it is left out.

The check of `SubmitOptions`, the options of `htcgrid submit` and the table in docs/connector.md are made of these rows.
The contract that is sent, `htcgrid_events.SessionOptions`, has the same bounds and defaults; a test compares them.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


class Kind(StrEnum):
    """What the value of an option is."""

    PARTITION = "the name of a partition"
    CHOICE = "one of a few words"
    WHOLE = "a whole number"
    NUMBER = "a number"
    DURATION = "a length of time"
    WHOLE_DURATION = "a length of time in whole seconds"
    ERRORS = "types of errors"
    FLAG = "yes or no"


_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.PARTITION: (str,),
    Kind.CHOICE: (str,),
    Kind.WHOLE: (int,),
    Kind.NUMBER: (int, float),
    Kind.DURATION: (timedelta, int, float),
    Kind.WHOLE_DURATION: (timedelta, int, float),
    Kind.ERRORS: (list, tuple, set, frozenset),
    Kind.FLAG: (bool,),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a session."""

    name: str
    """As in `SubmitOptions`; `--name` on the command line, with hyphens."""
    kind: Kind
    meaning: str
    """One sentence."""
    default: object = None
    """What holds if it is left out, in seconds where it is a length of time; None if there is no limit then."""
    low: int | None = None
    """The least legal value, in seconds where it is a length of time."""
    high: int | None = None
    """The greatest legal value."""
    below: int | None = None
    """The value below which all are legal."""
    choices: tuple[str, ...] = ()
    """The legal words."""
    field: str = ""
    """The field of `htcgrid_events.SessionOptions`, where it has another name."""

    @property
    def contract_field(self) -> str:
        """The field of `htcgrid_events.SessionOptions`."""
        return self.field or (f"{self.name}_seconds" if self.is_duration else self.name)

    @property
    def is_duration(self) -> bool:
        """Whether the value is a length of time."""
        return self.kind in (Kind.DURATION, Kind.WHOLE_DURATION)

    @property
    def types(self) -> tuple[type, ...]:
        """The Python types of legal values. The contract would take "5" for 5 and "yes" for True as well."""
        return _TYPES[self.kind]

    @property
    def legal(self) -> str:
        """The legal values, as the end of a sentence."""
        match self.kind:
            case Kind.PARTITION:
                return "a name of up to 32 lower-case letters, digits and hyphens that begins with a letter"
            case Kind.CHOICE:
                *most, last = map(repr, self.choices)
                return f"{', '.join(most)} or {last}"
            case Kind.ERRORS:
                return "a list of exception classes or their names, up to 32 of 256 characters"
            case Kind.FLAG:
                return "True or False"
            case Kind.DURATION:
                return f"a timedelta or a number of seconds, {self.range}"
            case Kind.WHOLE_DURATION:
                return f"a timedelta or a number of seconds, whole seconds {self.range}"
            case _:
                return f"{self.kind.value} {self.range}"

    @property
    def range(self) -> str:
        """From where to where legal values go, such as `from 0 to 20`; empty where they are no numbers."""
        if self.low is None:
            return ""
        if self.below is not None:
            return f"from {self.low} to below {self.below}"
        if self.high is None:
            return f"from {self.low} up"
        return f"from {self._worded(self.low)} to {self._worded(self.high)}"

    @property
    def default_in_words(self) -> str:
        """The default, such as `15 minutes`."""
        if self.default is None:
            return "no limit"
        if self.kind is Kind.ERRORS:
            return "none"
        return self._worded(self.default)

    def _worded(self, value: object) -> str:
        if self.kind is Kind.FLAG:
            return "yes" if value else "no"
        return duration(value) if self.is_duration and isinstance(value, int) else str(value)


def duration(seconds: int) -> str:
    """A length of time in its largest whole unit, such as `15 minutes`."""
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}{'' if seconds == size else 's'}"
    return "0"


OPTIONS = (
    Option("partition", Kind.PARTITION, "The pool of agents that runs the tasks.", default="default"),
    Option(
        "priority",
        Kind.CHOICE,
        "Before or behind the other sessions of the partition.",
        default="normal",
        choices=("high", "normal", "low"),
    ),
    Option("max_retries", Kind.WHOLE, "How often a task that failed is run again.", default=2, low=0, high=20),
    Option(
        "retry_base",
        Kind.DURATION,
        "Longest wait before the first retry; each wait is a random part of its longest.",
        default=1,
        low=0,
        high=3_600,
    ),
    Option(
        "retry_factor",
        Kind.NUMBER,
        "By how much the longest wait grows with each retry.",
        default=2,
        low=1,
        high=10,
    ),
    Option("retry_cap", Kind.DURATION, "Longest wait before any retry.", default=300, low=0, high=43_200),
    Option(
        "non_retryable",
        Kind.ERRORS,
        "Types of errors after which a task is not run again; subclasses are not included.",
        default=(),
    ),
    Option("max_failures", Kind.WHOLE, "Stop the session once more tasks than this have failed for good.", low=0),
    Option(
        "max_failure_share",
        Kind.NUMBER,
        "The same as a share of all tasks, judged once the session is closed.",
        low=0,
        below=1,
    ),
    Option("task_timeout", Kind.WHOLE_DURATION, "Longest run of one task.", default=900, low=1, high=43_200),
    Option(
        "timeout",
        Kind.WHOLE_DURATION,
        "Time from the session's creation after which open tasks are cancelled.",
        default=86_400,
        low=1,
        high=30 * 86_400,
        field="session_timeout_seconds",
    ),
    Option("publish_completions", Kind.FLAG, "Put every finished chunk on the grid's event bus.", default=False),
    Option(
        "publish_outcomes",
        Kind.FLAG,
        "Publish what subscribers are pushed on the grid's notification topic as well.",
        default=False,
    ),
)

BY_NAME = {option.name: option for option in OPTIONS}


def markdown() -> str:
    """The table of the documentation."""
    rows = [
        f"| `{option.name}` | {option.meaning} | {option.legal} | {option.default_in_words} |" for option in OPTIONS
    ]
    return "\n".join(["| option | meaning | legal values | default |", "|---|---|---|---|", *rows])
