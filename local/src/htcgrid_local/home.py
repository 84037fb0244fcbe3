"""The home directory of a grid: what lies where, and the lock that lets only one grid live in it."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import IO, Final

from htcgrid import profiles
from htcgrid.private_files import make_folders
from htcgrid_local.errors import GridRunningError, HomeError
from htcgrid_local.private_files import append_private, make_private_folder

HOME_VARIABLE: Final = "HTCGRID_HOME"
_NAME_ANOTHER: Final = f"set {HOME_VARIABLE} to a directory that you may write to."


def default_home() -> Path:
    """$HTCGRID_HOME, or ~/.htcgrid.

    Raises:
        HomeError: it lies in the home of a user who does not exist.
    """
    named = os.environ.get(HOME_VARIABLE) or "~/.htcgrid"
    try:
        return Path(named).expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise HomeError(f"The home {named} of a grid cannot be found ({error}): {_NAME_ANOTHER}") from error


def already_runs(root: Path, owner: int | str) -> GridRunningError:
    """The error that says that the process `owner` has a grid in `root`."""
    return GridRunningError(
        f"A grid already runs in {root} (process {owner}): stop it with `htcgrid local down`, "
        f"or set {HOME_VARIABLE} to another directory for a second one."
    )


class Home:
    """Paths and the lock of one home directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lock: IO[str] | None = None

    @property
    def profile(self) -> Path:
        """The connection profile of the local grid, which the connector finds by its name."""
        return profiles.path_of(profiles.LOCAL, self.root)

    @property
    def first_grid_configuration(self) -> Path:
        """The configuration file for programs of the first HTC-Grid."""
        return self.root / "local/agent_config.json"

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
    def functions(self) -> Path:
        """Snapshots of the function that the agents run, gone with the grid."""
        return self.root / "local/functions"

    @property
    def shared_data(self) -> Path:
        """What the agents keep of the data that tasks share, gone with the grid."""
        return self.root / "local/shared-data"

    @property
    def redis(self) -> Path:
        """Settings, key and password of the grid's Redis, gone with it."""
        return self.root / "local/redis"

    @property
    def payloads(self) -> Path:
        """Where large payloads lie in a grid whose store is the file system, gone with it."""
        return self.root / "local/payloads"

    @property
    def sam(self) -> Path:
        """What the SAM CLI keeps of itself."""
        return self.root / "local/sam"

    @property
    def reload_request(self) -> Path:
        """Lies there while somebody wants the agents to run the function as it is now."""
        return self.root / "local/reload"

    @property
    def root_key(self) -> Path:
        """The AWS credentials file with the root key of the embedded AWS, gone with the grid."""
        return self.root / "local/root.aws"

    @property
    def agent_credentials(self) -> Path:
        """The AWS configuration file under which the agents run."""
        return self.root / "local/agent.aws"

    def log(self, name: str) -> Path:
        """The log file of the process called `name`."""
        return self.logs / f"{name}.log"

    def check(self) -> None:
        """Make sure that the home, where it exists, is a directory that can be used.

        Raises:
            HomeError: it is something else, lies in something else, is somebody else's, or others may write to it.
        """
        try:
            for folder in (self.state.parent, self.root, *self.root.parents):
                if folder.exists():
                    if not folder.is_dir():
                        raise self._unusable(f"{folder} is not a directory")
                    if folder == self.state.parent:
                        self._check_own(folder)
                    elif folder == self.root:
                        self._check_own(folder)
                        return
                    else:
                        return
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def make(self) -> None:
        """Make the directories of the home that do not exist yet.

        Raises:
            HomeError: they cannot be made.
        """
        self.check()
        try:
            make_folders(self.root)
            for folder in (self.state.parent, self.logs, self.profile.parent):
                make_private_folder(folder)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def acquire(self) -> None:
        """Take the home for this process; the kernel gives it back when the process ends, however it ends.

        Raises:
            HomeError: the home cannot be made.
            GridRunningError: another process has it.
        """
        self.make()
        append_private(self.root / "local/lock").close()
        lock = (self.root / "local/lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise already_runs(self.root, owner) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def owner(self) -> int | None:
        """The process that has the home; none if nobody has it.

        The kernel knows, whatever a file says: a process that was killed has nothing any more.
        """
        try:
            with (self.root / "local/lock").open(encoding="ascii") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(lock.read() or 0) or None
        except FileNotFoundError:
            pass
        return None

    def release(self) -> None:
        """Give the home back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        """Remove what an earlier grid left: its logs and its temporary files."""
        self.make()
        # Written by earlier releases, whose build left them open.
        shutil.rmtree(self.sam, ignore_errors=True)
        self.clear_scratch()
        for log in self.logs.glob("*.log"):
            if log == self.log("supervisor"):
                # This process may already be writing to it.
                os.truncate(log, 0)
            else:
                log.unlink()

    def clear_scratch(self) -> None:
        """Remove temporary files, snapshots of functions, payloads, shared data, keys and requests."""
        for folder in (self.scratch, self.functions, self.shared_data):
            _remove(folder)
            make_private_folder(folder)
        for folder in (self.redis, self.payloads):
            shutil.rmtree(folder, ignore_errors=True)
        self.root_key.unlink(missing_ok=True)
        self.agent_credentials.unlink(missing_ok=True)
        self.reload_request.unlink(missing_ok=True)

    def _check_own(self, folder: Path) -> None:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable(f"{folder} may not be written to")
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise self._unusable(f"{folder} belongs to another user, {_name_of(found.st_uid)}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self._unusable(f"others may write to {folder}, which `chmod go-w {folder}` ends")

    def _unusable(self, reason: str) -> HomeError:
        return HomeError(f"The home {self.root} of a grid cannot be used ({reason}): {_NAME_ANOTHER}")


def _remove(folder: Path) -> None:
    """Remove a folder, also one in which folders are closed to their owner."""
    if folder.is_dir():
        folder.chmod(0o700)
        for path, children, _ in os.walk(folder):
            for child in (Path(path, name) for name in children):
                if not child.is_symlink():
                    child.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
