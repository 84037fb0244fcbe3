"""The state of a running grid, in one small file that the other commands read and that is replaced as a whole."""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from htcgrid.private_files import write_private


class Phase(enum.StrEnum):
    """Where a grid is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class ProcessId(BaseModel):
    """A process, told apart from a later one with the same number by when it began (seconds since 1970)."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    began: float

    @classmethod
    def of(cls, name: str, pid: int) -> ProcessId:
        """Identify a living process.

        Raises:
            psutil.NoSuchProcess: it has ended meanwhile.
        """
        return cls(name=name, pid=pid, began=psutil.Process(pid).create_time())

    @property
    def alive(self) -> bool:
        """Does this very process still run? (A zombie has ended.)"""
        try:
            process = psutil.Process(self.pid)
            return self._began_with(process) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    @property
    def replaced(self) -> bool:
        """Does the number belong to another process by now?"""
        try:
            return not self._began_with(psutil.Process(self.pid))
        except psutil.NoSuchProcess:
            return False

    def _began_with(self, process: psutil.Process) -> bool:
        # The kernel counts from boot, and what it calls boot moves a little when the clock is set.
        return abs(process.create_time() - self.began) < 1


class State(BaseModel):
    """One grid as seen from outside."""

    phase: Phase
    step: str = ""
    supervisor: ProcessId
    children: tuple[ProcessId, ...] = ()
    endpoint_url: str | None = None
    restarts: dict[str, int] = {}
    function: str = ""
    """The folder of the user's function."""
    function_digest: str = ""
    """Which version of it the agents run."""
    reloads: int = 0
    """How many requests to reload the function have been dealt with."""
    reload_error: str | None = None
    """Why the last of them failed; the agents then run what they ran before."""
    error: str | None = None

    def write(self, path: Path) -> None:
        """Replace the file at once, so that a reader sees the old state or the new one."""
        write_private(path, self.model_dump_json(indent=2))


def read_state(path: Path) -> State | None:
    """The state in `path`; none where there is no file, or one of another version of the local grid."""
    try:
        return State.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


class Report:
    """The state of the grid that this process supervises, written anew with every change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._state = State(phase=Phase.STARTING, supervisor=ProcessId.of("supervisor", os.getpid()))
        self.note()

    def note(self, **changes: object) -> None:
        """Change fields of the state."""
        with self._lock:
            self._state = self._state.model_copy(update=changes)
            self._state.write(self._path)

    def children(self, living: Sequence[ProcessId]) -> None:
        """Say which processes the grid has now."""
        self.note(children=tuple(living))
