"""The client of HTC-Grid: submit sessions of tasks, and have their results pushed back.

    with Grid.connect() as grid:
        session = grid.submit({"x": x} for x in range(1000))
        print(session.results(progress=True))

Names are loaded when first used, so that `import htcgrid` costs a program next to nothing.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from htcgrid.async_grid import (
        AsyncGrid,
    )
    from htcgrid.async_session import (
        AsyncSession,
    )
    from htcgrid.errors import (
        AuthenticationFailed,
        DataMissing,
        DataNotFound,
        EmptySession,
        GridClosed,
        GridError,
        GridUnavailable,
        GridUnreachable,
        InvalidData,
        InvalidOption,
        InvalidTask,
        NotificationsUnavailable,
        PayloadTooLarge,
        ProfileInvalid,
        ProfileMissing,
        RequestRejected,
        ResultsUnavailable,
        SessionCancelled,
        SessionClosed,
        SessionNotFound,
        SessionTimedOut,
        TaskFailed,
        TaskNotFound,
        UnexpectedAnswer,
        WaitTimeout,
    )
    from htcgrid.executor import (
        GridExecutor,
    )
    from htcgrid.futures import TaskFuture
    from htcgrid.grid import (
        Grid,
    )
    from htcgrid.options import (
        JSON,
        Notifications,
        OnExit,
        Order,
        SubmitOptions,
    )
    from htcgrid.profile import (
        Profile,
    )
    from htcgrid.progress import (
        Progress,
    )
    from htcgrid.results import (
        FinishedTask,
        TaskTimes,
    )
    from htcgrid.session import (
        Session,
    )
    from htcgrid.shared_data import SharedData
    from htcgrid.timeline import (
        Timeline,
    )
    from htcgrid_events import (
        Account,
        Attempt,
        CancelledSessions,
        ChunkRecord,
        DataRecord,
        DeadLetter,
        GridInfo,
        Priority,
        SessionState,
        SessionStatus,
        SessionSummary,
        TaskRecord,
        TaskState,
    )

_HOMES = {
    "htcgrid.futures": ("TaskFuture",),
    "htcgrid.async_grid": ("AsyncGrid",),
    "htcgrid.async_session": ("AsyncSession",),
    "htcgrid.errors": (
        "AuthenticationFailed",
        "DataMissing",
        "DataNotFound",
        "EmptySession",
        "GridClosed",
        "GridError",
        "GridUnavailable",
        "GridUnreachable",
        "InvalidData",
        "InvalidOption",
        "InvalidTask",
        "NotificationsUnavailable",
        "PayloadTooLarge",
        "ProfileInvalid",
        "ProfileMissing",
        "RequestRejected",
        "ResultsUnavailable",
        "SessionCancelled",
        "SessionClosed",
        "SessionNotFound",
        "SessionTimedOut",
        "TaskFailed",
        "TaskNotFound",
        "UnexpectedAnswer",
        "WaitTimeout",
    ),
    "htcgrid.executor": ("GridExecutor",),
    "htcgrid.grid": ("Grid",),
    "htcgrid.options": (
        "JSON",
        "Notifications",
        "OnExit",
        "Order",
        "SubmitOptions",
    ),
    "htcgrid.profile": ("Profile",),
    "htcgrid.progress": ("Progress",),
    "htcgrid.results": (
        "FinishedTask",
        "TaskTimes",
    ),
    "htcgrid.session": ("Session",),
    "htcgrid.shared_data": ("SharedData",),
    "htcgrid.timeline": ("Timeline",),
    "htcgrid_events": (
        "Account",
        "Attempt",
        "CancelledSessions",
        "ChunkRecord",
        "DataRecord",
        "DeadLetter",
        "GridInfo",
        "Priority",
        "SessionState",
        "SessionStatus",
        "SessionSummary",
        "TaskRecord",
        "TaskState",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "JSON",
    "Account",
    "AsyncGrid",
    "AsyncSession",
    "Attempt",
    "AuthenticationFailed",
    "CancelledSessions",
    "ChunkRecord",
    "DataMissing",
    "DataNotFound",
    "DataRecord",
    "DeadLetter",
    "EmptySession",
    "FinishedTask",
    "Grid",
    "GridClosed",
    "GridError",
    "GridExecutor",
    "GridInfo",
    "GridUnavailable",
    "GridUnreachable",
    "InvalidData",
    "InvalidOption",
    "InvalidTask",
    "Notifications",
    "NotificationsUnavailable",
    "OnExit",
    "Order",
    "PayloadTooLarge",
    "Priority",
    "Profile",
    "ProfileInvalid",
    "ProfileMissing",
    "Progress",
    "RequestRejected",
    "ResultsUnavailable",
    "Session",
    "SessionCancelled",
    "SessionClosed",
    "SessionNotFound",
    "SessionState",
    "SessionStatus",
    "SessionSummary",
    "SessionTimedOut",
    "SharedData",
    "SubmitOptions",
    "TaskFailed",
    "TaskFuture",
    "TaskNotFound",
    "TaskRecord",
    "TaskState",
    "TaskTimes",
    "Timeline",
    "UnexpectedAnswer",
    "WaitTimeout",
]


_RENAMED = {"Completed": "FinishedTask"}
"""Names of the release before, which still work and warn."""


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        warnings.warn(f"htcgrid.{name} is now htcgrid.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
