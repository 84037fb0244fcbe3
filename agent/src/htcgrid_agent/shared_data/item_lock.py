"""The lock of one item of the cache, which the kernel releases when the agent that holds it dies.

Whoever uses an item holds its lock together with others; whoever fetches or removes it, alone. Who holds it alone may
remove the file of the lock: one whose file is gone is worth nothing, and is taken anew.
"""

import fcntl
import os
from pathlib import Path
from typing import Self


class ItemLock:
    """An open file that is locked, or will be."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """That of an item that is known, if it is."""
        try:
            return cls(path, os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:
            return None

    @classmethod
    def made_for(cls, path: Path) -> Self:
        """That of an item, which is known from now on."""
        return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

    def take_shared(self) -> bool:
        """Hold it together with others; false if somebody holds it alone, or it is worth nothing."""
        return self._take(fcntl.LOCK_SH)

    def take_alone(self) -> bool:
        """Hold it alone; false if somebody holds it, or it is worth nothing. What was held before may be lost."""
        return self._take(fcntl.LOCK_EX)

    def touch(self) -> None:
        """The item is used now."""
        os.utime(self._descriptor)

    def reserve(self, size: int) -> None:
        """The item has this many bytes, or will have."""
        # A file without content, which takes no room: so one look at it tells size and last use.
        os.ftruncate(self._descriptor, size)

    def forget(self) -> None:
        """The item is known no longer. The lock must be held alone."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release it."""
        os.close(self._descriptor)

    def _take(self, how: int) -> bool:
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.fstat(self._descriptor).st_nlink > 0
