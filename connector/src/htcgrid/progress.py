"""How far a session is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Self

from htcgrid._view.progress_bar import Snapshot

if TYPE_CHECKING:
    from htcgrid_events import SessionStatus, TaskState


@dataclass(frozen=True, slots=True, repr=False)
class Progress:
    """How far a session is, as the grid counts. Made by `Session.progress`; as a text it is one line."""

    session_id: str
    state: str
    """The session's state, such as `RUNNING`."""
    submitted: int
    """Tasks so far; all of them once the state is no longer `OPEN`."""
    completed: int
    failed: int
    cancelled: int
    seconds: float
    """Since its creation, or from that to its verdict."""
    states: "Mapping[TaskState, int] | None" = None
    """How many tasks are in each state, without the states of none, if that was asked for."""

    @classmethod
    def of(
        cls,
        status: "SessionStatus",
        states: "Mapping[TaskState, int] | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """From a status, at a time in seconds since the epoch."""
        account = status.account
        ended = clock() * 1000 if status.ended_at is None else status.ended_at
        return cls(
            session_id=status.session_id,
            state=status.state.value,
            submitted=account.submitted,
            completed=account.completed,
            failed=account.failed,
            cancelled=account.cancelled,
            seconds=max(0.0, (ended - status.created_at) / 1000),
            states=states,
        )

    @property
    def finished(self) -> int:
        """Tasks with an outcome."""
        return self.completed + self.failed + self.cancelled

    @property
    def open(self) -> int:
        """Tasks without an outcome: waiting or running."""
        return self.submitted - self.finished

    @property
    def rate(self) -> float:
        """Tasks finished per second, since the session's creation."""
        return self.finished / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta(self) -> timedelta | None:
        """How long the open tasks will take at this rate; none where nothing has finished yet."""
        return timedelta(seconds=self.open / self.rate) if self.rate else None

    def __str__(self) -> str:
        return f"{self.state}: {Snapshot(self.session_id, self.finished, self.failed, self.submitted, self.seconds)}"

    def __repr__(self) -> str:
        return f"<Progress {self}>"

    def _repr_html_(self) -> str:
        return html_of(self.session_id, self)


def html_of(session_id: str, progress: Progress | None) -> str:
    """A session as a notebook shows it; without its progress where that is not known. The bar is green where all is
    well, red where tasks failed, and grey where some were cancelled."""
    from htcgrid_events.views import table_of

    if progress is None:
        return f"<b>session</b> <code>{escape(session_id)}</code>"
    colour = "#c62828" if progress.failed else "#757575" if progress.cancelled else "#2e7d32"
    extent = f'value="{progress.finished}" max="{max(1, progress.submitted)}"'
    bar = f'<progress {extent} style="accent-color:{colour}"></progress>'
    failed = f' <b style="color:{colour}">{progress.failed:,} failed</b>' if progress.failed else ""
    names = ("submitted", "completed", "failed", "cancelled", "open")
    table = table_of("", {name: getattr(progress, name) for name in names})
    return f"<b>session</b> <code>{escape(session_id)}</code> {escape(progress.state)} {bar}{failed}{table}"
