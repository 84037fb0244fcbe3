"""Keeps a running grid running: agents that die are started again, and the embedded AWS's end is the grid's.

It also carries out requests to reload the function, since only the process that runs the grid may replace its agents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from htcgrid_local.agents import AgentPool
from htcgrid_local.emulator import Emulator
from htcgrid_local.errors import EmulatorError
from htcgrid_local.state import Report

_LOOK_EVERY: Final = 0.2


class Watch:
    """A thread that looks after the processes of a grid until it is stopped or the grid has failed."""

    def __init__(self, emulator: Emulator, pool: AgentPool, report: Report, reload: Callable[[], None]) -> None:
        """`reload` is called in between; it carries out what was asked for, if anything."""
        self._reload = reload
        self._emulator = emulator
        self._pool = pool
        self._report = report
        self._stop = threading.Event()
        # No threading.Event, whose wait a signal can break off with a RuntimeError.
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._look_after, name="htcgrid-local-watch", daemon=True)
        self.failure: EmulatorError | None = None
        """Why the grid failed; none while it runs, or when it was stopped."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def wait(self) -> EmulatorError | None:
        """Block until the grid has failed or the watch is stopped, and return why it failed."""
        self._ended.get()
        self._ended.put(None)  # for whoever else waits
        return self.failure

    def _look_after(self) -> None:
        try:
            while not self._stop.wait(_LOOK_EVERY):
                if self._emulator.ended:
                    self.failure = self._emulator.failure()
                    return
                if self._pool.restart_ended():
                    self._report.note(restarts=self._pool.restarts)
                self._reload()
        finally:
            self._ended.put(None)
