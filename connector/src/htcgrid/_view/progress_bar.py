"""How far a session is, shown where its user looks: a terminal, a notebook, or the lines of a log file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

from htcgrid.results import Part

if TYPE_CHECKING:
    from htcgrid._follow.collector import Collector

LINE_EVERY = timedelta(seconds=10)
"""Between two lines where the output is no terminal, so that a log file stays readable."""
_REDRAW_EVERY = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a session is."""

    session_id: str
    finished: int
    failed: int
    total: int | None
    seconds: float

    def __str__(self) -> str:
        from htcgrid_events.views import counted

        finished = counted(self.finished, "task")
        if self.total:
            finished = f"{self.finished:,} of {counted(self.total, 'task')} ({self.finished / self.total:.0%})"
        failed = f", {self.failed:,} failed" if self.failed else ""
        rate = self.finished / self.seconds if self.seconds > 0 else 0.0
        left = f", about {(self.total - self.finished) / rate:.0f} s left" if self.total and rate else ""
        done = self.total is not None and self.finished >= self.total
        pace = f" after {self.seconds:.1f} s" if done else f", {rate:,.0f}/s{left}"
        return f"session {self.session_id[:8]}: {finished}{failed}{pace}"


class View(Protocol):
    """Where progress is shown."""

    def show(self, snapshot: Snapshot, *, last: bool) -> None:
        """Show how far the session is; called often, so it decides itself when to draw."""


class ProgressBar:
    """Counts the parts of one session as they come."""

    def __init__(self, collector: "Collector", view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._collector = collector
        self._view = view
        self._clock = clock
        self._began = clock()
        self._finished = 0
        self._failed = 0

    def add(self, part: Part) -> None:
        """Count a part that has been read."""
        self._finished += part.size
        self._failed += part.failed
        self.show(last=False)

    def follow(self) -> None:
        """Count what has finished, read or not."""
        self._finished, self._failed = self._collector.finished_tasks, self._collector.failed_tasks
        self.show(last=False)

    def show(self, *, last: bool) -> None:
        """Show how far the session is."""
        seconds = self._clock() - self._began
        total = self._collector.tasks
        snapshot = Snapshot(self._collector.session_id, self._finished, self._failed, total, seconds)
        self._view.show(snapshot, last=last)


@contextmanager
def progress_of(collector: "Collector", *, shown: bool) -> Iterator[ProgressBar]:
    """A progress bar for as long as the context lasts, in the way that fits where standard error goes."""
    bar = ProgressBar(collector, _view() if shown and sys.stderr is not None else NoView())
    bar.show(last=False)
    try:
        yield bar
    finally:
        bar.show(last=True)


def _view() -> View:
    shell = sys.modules.get("IPython")
    if shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell":
        return NotebookView()
    return TerminalView() if sys.stderr.isatty() else LineView(sys.stderr)


class NoView:
    """Nothing."""

    def show(self, snapshot: Snapshot, *, last: bool) -> None:
        """See `View.show`."""


class LineView:
    """A line now and then, and one at the end."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._next = clock() + LINE_EVERY.total_seconds()

    def show(self, snapshot: Snapshot, *, last: bool) -> None:
        """See `View.show`."""
        if last or self._clock() >= self._next:
            self._next = self._clock() + LINE_EVERY.total_seconds()
            self._out.write(f"{snapshot}\n")
            self._out.flush()


class TerminalView:
    """A bar that is drawn over and over at the foot of the terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Left())
        self._bar = Progress(*columns, TextColumn("[red]{task.fields[failed]}"), console=Console(stderr=True))
        self._task = self._bar.add_task("", total=None, failed="")
        self._bar.start()

    def show(self, snapshot: Snapshot, *, last: bool) -> None:
        """See `View.show`."""
        self._bar.update(
            self._task,
            description=f"session {snapshot.session_id[:8]}",
            completed=snapshot.finished,
            total=snapshot.total,
            failed=f"{snapshot.failed:,} failed" if snapshot.failed else "",
        )
        if last:
            self._bar.stop()


class NotebookView:
    """A bar of HTML below the cell, which needs no widgets."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found]  # there in a notebook

        self._html = HTML
        self._handle = display(HTML(""), display_id=True)
        self._clock = clock
        self._next = float("-inf")

    def show(self, snapshot: Snapshot, *, last: bool) -> None:
        """See `View.show`."""
        if last or self._clock() >= self._next:
            self._next = self._clock() + _REDRAW_EVERY.total_seconds()
            extent = f'value="{snapshot.finished}" max="{snapshot.total}"' if snapshot.total else ""
            self._handle.update(self._html(f"<progress {extent}></progress> {snapshot}"))
