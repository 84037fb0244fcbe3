"""The progress of a start, as a person sees it on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape


class StartupProgress(Protocol):
    """Is called at each step of a start, with details of it, and at its end."""

    def begin(self, step: str) -> None:
        """A step has begun; the one before it is done."""

    def detail(self, text: str) -> None:
        """Something worth showing happened within the current step."""

    def end(self) -> None:
        """The last step is done."""


class Silent:
    """Shows nothing: for tests and programs."""

    def begin(self, step: str) -> None:
        """Ignore the step."""

    def detail(self, text: str) -> None:
        """Ignore the detail."""

    def end(self) -> None:
        """Ignore the end."""


class Terminal:
    """One line per step with the time it took, and a spinner for the current one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._step = ""
        self._detail = ""
        self._began = 0.0

    def begin(self, step: str) -> None:
        """Tick off the step before, and show this one as running."""
        self._tick()
        self._step, self._detail, self._began = step, "", time.monotonic()
        self._status.update(f"{escape(step)} …")
        self._status.start()

    def detail(self, text: str) -> None:
        """Show `text` beside the running step."""
        self._detail = text
        self._status.update(f"{escape(self._step)} … [dim]{escape(text)}[/dim]")

    def end(self) -> None:
        """Tick off the last step."""
        self._tick()
        self._status.stop()

    def abandon(self) -> None:
        """Stop the spinner without ticking the step off."""
        self._status.stop()

    def _tick(self) -> None:
        if self._step:
            took = time.monotonic() - self._began
            detail = f" [dim]({escape(self._detail)})[/dim]" if self._detail else ""
            self._console.print(
                f"[green]✓[/green] {escape(self._step)}{detail} [dim]{took:.1f} s[/dim]", highlight=False
            )
        self._step = ""


@contextmanager
def shown(console: Console) -> Iterator[Terminal]:
    """A terminal progress whose spinner is gone at the end, whatever happened."""
    terminal = Terminal(console)
    try:
        yield terminal
    finally:
        terminal.abandon()
