"""Payloads in a file system that all hosts mount: Amazon FSx for Lustre, Amazon EFS, or any other that is POSIX.

A payload is written beside its place, flushed, and renamed into it, so that whoever sees it sees all of it. A folder
holds few files, and none is ever listed but by `expire`.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing, StoreFull, StoreMisconfigured, StoreUnavailable

MARKER: Final = ".htcgrid-store"
"""The file that tells the store's folder from that below a mount which is not there."""

_PART = 1024 * 1024
_LONGEST_NAME = 240
"""Most bytes of a file's name that holds a key; POSIX file systems take 255, and the temporary name is longer."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOOK_AGAIN = 0.2
"""Seconds between two looks for a file that another host has just written."""


class FilesystemStore:
    """A `PayloadStore` below one folder."""

    def __init__(
        self,
        folder: Path,
        patience: timedelta = timedelta(seconds=5),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the store in `folder`, which `prepare` has made.

        Args:
            folder: where the payloads lie.
            patience: how long to look for a file that is not there: NFS lets hosts see new files late, since each keeps
                for some seconds what it has not found ("nfs(5)", lookupcache).
            sleep: waits for so many seconds.

        Raises:
            StoreMisconfigured: the folder is not that of a store, most likely because nothing is mounted there.
        """
        # All is done below this open folder: if the mount goes away, nothing is written into the folder under it.
        try:
            self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreMisconfigured(f"{folder} cannot be opened as a payload store: {error.strerror}") from error
        if not (folder / MARKER).is_file():
            os.close(self._root)
            raise StoreMisconfigured(
                f"{folder} is not a payload store, since it has no file {MARKER}: mount the file system there, "
                "or prepare a new one"
            )
        self._patience = patience.total_seconds()
        self._sleep = sleep

    @staticmethod
    def prepare(folder: Path) -> None:
        """Make a store of the root of a file system, or of any folder. What is there already stays."""
        folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        (folder / MARKER).touch(mode=0o440)

    def close(self) -> None:
        """Let go of the file system, so that it can be unmounted."""
        os.close(self._root)

    def put(self, key: str, data: bytes) -> None:
        """See `PayloadStore.put`.

        Raises:
            StoreFull: the file system or the quota is full.
        """
        place = _place(key)
        with _told(f"did not take {key} ({len(data)} bytes)"), self._folder_of(place) as folder:
            name = place.name
            beside = f".{name[: _LONGEST_NAME - 40]}.{secrets.token_hex(8)}.new"
            try:
                self._write(folder, beside, data)
                os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with suppress(FileNotFoundError):
                    os.unlink(beside, dir_fd=folder)
                raise
            os.fsync(folder)

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        return b"".join(self.stream(key, size))

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        with _told(f"did not give {key}"):
            file = self._opened(key)
            with os.fdopen(file, "rb", buffering=0) as payload:
                found = os.fstat(file).st_size
                if found != size:
                    raise PayloadCorrupt(f"the payload {key} has {found} bytes, and not {size}")
                while part := payload.read(_PART):
                    yield part

    def expire(self, older_than: timedelta, now: Callable[[], float] = time.time) -> int:
        """Remove payloads that were written longer ago than that, and return how many. Run it from one host, rarely:
        it walks over all of them."""
        before = now() - older_than.total_seconds()
        removed = 0
        for _, _, files, folder in os.fwalk(dir_fd=self._root):
            for name in files:
                with suppress(FileNotFoundError):
                    if name != MARKER and os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < before:
                        os.unlink(name, dir_fd=folder)
                        removed += 1
        return removed

    def _opened(self, key: str) -> int:
        waited = 0.0
        while True:
            try:
                return os.open(_place(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._root)
            except FileNotFoundError as error:
                if waited >= self._patience:
                    raise PayloadMissing(f"no payload lies under {key}") from error
            self._sleep(_LOOK_AGAIN)
            waited += _LOOK_AGAIN

    @contextmanager
    def _folder_of(self, place: Path) -> Iterator[int]:
        folder = place.parent
        for one in (folder.parent, folder):
            with suppress(FileExistsError):
                os.mkdir(one, 0o770, dir_fd=self._root)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._root)
        try:
            yield opened
        finally:
            os.close(opened)

    @staticmethod
    def _write(folder: int, name: str, data: bytes) -> None:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o440, dir_fd=folder)
        with os.fdopen(file, "wb", buffering=0) as payload:
            left = memoryview(data)
            while left:
                left = left[payload.write(left) :]
            os.fsync(file)


def _place(key: str) -> Path:
    """Where a payload lies: two levels of at most 256 folders each, then a file named after its key."""
    digest = sha256(key.encode()).hexdigest()
    name = quote(key, safe="")
    return Path(digest[:2], digest[2:4], name if len(name) <= _LONGEST_NAME else digest)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in _FULL else StoreUnavailable
        raise kind(f"the file system {what}: {error.strerror}") from error
