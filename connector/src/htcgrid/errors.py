"""What can go wrong. Each error is one sentence that says what, where, and what would be right."""

from typing import TYPE_CHECKING, Any

from htcgrid.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from htcgrid_events import Attempt


_LAYOUT = "\t\n"
"""What texts of errors may hold, as those of any exception of Python may."""


class GridError(Exception):
    """The root of the connector's errors. `retryable` says whether the same call may succeed later.

    As a text it shows control characters that a handler wrote as escapes, such as `\\x1b`, but for line ends and tabs.
    Its attributes have them as they are.
    """

    retryable = False

    def __str__(self) -> str:
        return visible(super().__str__(), keep=_LAYOUT)

    def __reduce__(self) -> "tuple[object, ...]":
        """Pickled and copied without `__init__`, whose arguments are not those of the exception."""
        return _restored, (type(self), self.args, dict(vars(self)))


def _restored(kind: type[GridError], args: "tuple[Any, ...]", attributes: "dict[str, Any]") -> GridError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class ProfileMissing(GridError):
    """Raised when no profile says where the grid is."""


class ProfileInvalid(GridError):
    """Raised when a profile cannot be read; names the field and what is legal."""


class AuthenticationFailed(GridError):
    """Raised when the grid does not accept the user or the password."""


class GridUnreachable(GridError):
    """Raised when nothing answered at the grid's address within the time limit for requests."""

    retryable = True


class GridUnavailable(GridError):
    """Raised when the grid kept refusing a request for the moment (429 or 5xx) until the time limit for requests."""

    retryable = True


class RequestRejected(GridError):
    """Raised when the grid refuses a request for good. `status` is the HTTP status, `reason` the grid's word for it."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class UnexpectedAnswer(GridError):
    """Raised when the grid answers what this version of the connector does not understand."""


class GridClosed(GridError):
    """Raised when a grid, or a session of it, is used after `Grid.close()`, or in a process that was forked after
    `Grid.connect()`."""

    def __init__(self, message: str = "the grid was closed: connect anew") -> None:
        super().__init__(message)


class NotificationsUnavailable(GridError):
    """Raised when the way of notification that was asked for cannot be had; says why. `auto` always can."""


class EmptySession(GridError, ValueError):
    """Raised when a submission holds no task. Nothing was submitted."""


class InvalidTask(GridError, ValueError):
    """Raised when a task is not JSON. `index` is its number in the submission, or none for the submission itself."""

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class PayloadTooLarge(InvalidTask):
    """Raised when a task is larger than `limit` bytes as JSON."""

    def __init__(self, *, index: int, size: int, limit: int) -> None:
        super().__init__(
            f"task {index} has {size:,} bytes as JSON and a task may have {limit:,}: "
            "put what is larger where the handler can read it, and send its place",
            index=index,
        )
        self.size = size
        self.limit = limit


class InvalidData(GridError, ValueError):
    """Raised when what is to be put as shared data cannot be read, is too large, or has a name that it cannot have; or
    when a digest is none. Nothing was put or deleted."""


class DataMissing(RequestRejected):
    """Raised when tasks refer to shared data that is not in the grid; names its digests. Nothing was submitted by that
    request: put the data, and submit again."""


class DataNotFound(GridError, LookupError):
    """Raised when the user has no shared data of a digest."""


class InvalidOption(GridError, ValueError):
    """Raised when an option of a submission is unknown or has an illegal value. Nothing was submitted."""


class SessionNotFound(GridError, LookupError):
    """Raised when the user has no session with this id; whether another user has one is not told."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"you have no session {session_id!r}: the id is not right, or the session has expired")
        self.session_id = session_id


class TaskNotFound(GridError, LookupError):
    """Raised when a session has no task with this number."""


class WaitTimeout(GridError, TimeoutError):
    """Raised when the `timeout` of a call passed; the session goes on, and the call may be repeated."""

    retryable = True


class ResultsUnavailable(GridError):
    """Raised when a finished task's result is not to be had from the grid any more, or is damaged."""


class SessionCancelled(GridError):
    """Stands for, or raised as, the result of a task that was cancelled with its session."""


class SessionTimedOut(GridError):
    """Stands for, or raised as, the result of a task that was still open at its session's deadline."""


class SessionClosed(GridError):
    """Raised when tasks are added to a session that takes no more: it was closed, or was not opened by this program."""


class TaskFailed(GridError):
    """Stands for, or raised as, the result of a task that failed for good. Trying again helps where its cause is gone:
    `Session.redrive` runs the task again.

    Attributes:
        session_id: The task's session.
        index: The task's number in its session.
        kind: What ended it, as a text: the value of one of `htcgrid_events.FailureKind`, which tells what each means.
        type: The remote exception's type.
        message: The remote exception's message.
        trace: The remote traceback, line by line.
        attempts: How often the task was tried.
        agent: The agent of the last attempt.
        host: The machine of the last attempt; empty where it is not known.
        history: The earlier attempts, oldest first; see `Attempt`.
    """

    def __init__(
        self,
        *,
        session_id: str,
        index: int,
        kind: str,
        type: str,  # noqa: A002 - the noun of the contract
        message: str,
        trace: tuple[str, ...] = (),
        attempts: int = 1,
        agent: str = "",
        host: str = "",
        history: "tuple[Attempt, ...]" = (),
    ) -> None:
        from htcgrid_events.views import counted

        place = f"{agent} at {host}" if agent and host else agent or host
        where = f" on {place}" if place else ""
        tried = counted(attempts, "attempt")
        super().__init__(f"task {index} of session {session_id} failed after {tried}{where}: {type}: {message}")
        self.session_id = session_id
        self.index = index
        self.kind = kind
        self.type = type
        self.message = message
        self.trace = trace
        self.attempts = attempts
        self.agent = agent
        self.host = host
        self.history = history
        if trace:
            self.add_note(_note("Remote traceback:", (line.rstrip("\n") for line in trace)))
        if history:
            self.add_note(_note("Earlier attempts:", (_line(number, at) for number, at in enumerate(history, 1))))


def _note(head: str, lines: "Iterable[str]") -> str:
    return visible("\n".join([head, *lines]), keep=_LAYOUT)


def _line(number: int, attempt: "Attempt") -> str:
    seconds = (attempt.ended_at - attempt.started_at) / 1000
    where = f" on {attempt.agent or attempt.host}" if attempt.agent or attempt.host else ""
    return f"  {number}. after {seconds:.1f} s{where}: {attempt.kind.value}: {attempt.type}: {attempt.message}"
