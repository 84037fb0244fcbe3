"""Removes from a store in a file system what has expired: once a day, and one host at a time.

One small file in the store's root, `.htcgrid-sweep`, says when the last sweep began and how many of the 256 folders it
has done. Who sweeps holds the lock of that file (flock(2), which NFS and, mounted with `flock`, Lustre keep for all
hosts), which goes with the process that holds it: after one that was killed the next goes on where it was.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

UNFINISHED: Final = ".+"
"""How the name of a file begins that is no payload yet. A payload's name holds no plus sign."""

_STATE: Final = ".htcgrid-sweep"
_FOLDERS: Final = 256
_EVERY: Final = timedelta(days=1)
_UNFINISHED_FOR: Final = timedelta(days=1)
"""How long a file is kept that is no payload yet: longer than any upload takes."""
_PER_SECOND: Final = 500
"""Most files and folders that are looked at in a second, so that the file system has time for others."""
_AT_ONCE: Final = 50
"""So many are looked at between two pauses."""


def sweep(root: int, keep: timedelta, pause: Callable[[float], bool], now: Callable[[], float]) -> int | None:
    """Remove payloads that are older than `keep`, and what is left of writers that died.

    Args:
        root: the open folder of the store.
        keep: how old a payload may be.
        pause: waits for so many seconds, and says whether to stop.
        now: seconds since the epoch.

    Returns:
        How many files were removed; None if it is not yet time again, or another host sweeps.

    Raises:
        OSError: the file system fails, or keeps no locks.
    """
    if not _is_due(_read(root), now()):
        return None
    with _lock(root) as state:
        # Another host may have done it meanwhile.
        began, done = _read(root)
        if state is None or not _is_due((began, done), now()):
            return None
        if done == _FOLDERS:
            began, done = now(), 0
        removed = looked_at = 0
        for number in range(done, _FOLDERS):
            _write(state, began, number)
            for folder in _folders(root, f"{number:02x}"):
                names = _names(folder)
                removed += sum(_remove_if_old(name, folder, keep, now()) for name in names)
                looked_at += 1 + len(names)
                if looked_at >= _AT_ONCE:
                    if pause(looked_at / _PER_SECOND):
                        return removed
                    looked_at = 0
        _write(state, began, _FOLDERS)
        return removed


def _is_due(state: tuple[float, int], now: float) -> bool:
    began, done = state
    # A moment in the future is the mistake of another host's clock.
    return done < _FOLDERS or not 0 <= now - began < _EVERY.total_seconds()


def _folders(root: int, top: str) -> Iterator[int]:
    """The open folders below one of the upper ones."""
    try:
        with _open_folder(top, root) as upper:
            names = _names(upper)
    except FileNotFoundError:
        return
    for name in names:
        with suppress(NotADirectoryError), _open_folder(f"{top}/{name}", root) as folder:
            yield folder


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


@contextmanager
def _open_folder(name: str, root: int) -> Iterator[int]:
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
    try:
        yield folder
    finally:
        os.close(folder)


def _remove_if_old(name: str, folder: int, keep: timedelta, now: float) -> bool:
    most = min(keep, _UNFINISHED_FOR) if name.startswith(UNFINISHED) else keep
    with suppress(FileNotFoundError):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < now - most.total_seconds():
            os.unlink(name, dir_fd=folder)
            return True
    return False


@contextmanager
def _lock(root: int) -> Iterator[int | None]:
    """The open file of the state while no other process has it so; else nothing."""
    file = os.open(_STATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660, dir_fd=root)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file
    finally:
        os.close(file)


def _read(root: int) -> tuple[float, int]:
    """When the last sweep began, and how many folders it has done: all of them if there was none."""
    try:
        file = os.open(_STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return 0, _FOLDERS
    try:
        found = re.fullmatch(rb"(\d{10}) (\d{3})\n", os.read(file, 100))
    finally:
        os.close(file)
    return (int(found[1]), int(found[2])) if found else (0, _FOLDERS)


def _write(file: int, began: float, done: int) -> None:
    state = f"{int(began):010} {done:03}\n".encode()
    os.pwrite(file, state, 0)
    os.ftruncate(file, len(state))
