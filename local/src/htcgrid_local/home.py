"""The home directory of a grid: what lies where, and the lock that lets only one grid live in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO, Final

from htcgrid_local.errors import GridRunningError

HOME_VARIABLE: Final = "HTCGRID_HOME"


def default_home() -> Path:
    """$HTCGRID_HOME, or ~/.htcgrid."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named).expanduser().resolve() if named else Path.home() / ".htcgrid"


class Home:
    """Paths and the lock of one home directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lock: IO[str] | None = None

    @property
    def profile(self) -> Path:
        """The connection profile that the connector reads."""
        return self.root / "profile.json"

    @property
    def state(self) -> Path:
        """What `status`, `down` and the next start know about this grid."""
        return self.root / "local/state.json"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.root / "local/logs"

    @property
    def scratch(self) -> Path:
        """Temporary files of the embedded AWS, gone with it."""
        return self.root / "local/tmp"

    @property
    def agent_credentials(self) -> Path:
        """The AWS configuration file under which the agents run."""
        return self.root / "local/agent.aws"

    def log(self, name: str) -> Path:
        """The log file of the process called `name`."""
        return self.logs / f"{name}.log"

    def acquire(self) -> None:
        """Take the home for this process; the kernel gives it back when the process ends, however it ends.

        Raises:
            GridRunningError: another process has it.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.root / "local").mkdir(exist_ok=True)
        lock = (self.root / "local/lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise GridRunningError(
                f"A grid already runs in {self.root} (process {owner}): stop it with `htcgrid local down`, "
                f"or set {HOME_VARIABLE} to another directory for a second one."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Give the home back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        """Remove what an earlier grid left: its logs and its temporary files."""
        self.clear_scratch()
        self.logs.mkdir(parents=True, exist_ok=True)
        for log in self.logs.glob("*.log"):
            if log == self.log("supervisor"):
                # This process may already be writing to it.
                os.truncate(log, 0)
            else:
                log.unlink()

    def clear_scratch(self) -> None:
        """Empty the directory of temporary files."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
