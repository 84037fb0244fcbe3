"""Payloads in a file system that all hosts mount: Amazon FSx for Lustre, Amazon EFS, or any other that is POSIX.

A payload is written beside its place, flushed, and renamed into it, so that whoever sees it sees all of it. A folder
holds few files, and none is ever listed but by the sweep for what has expired.
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
from htcgrid_dataplane.filesystem_sweep import UNFINISHED, sweep

MARKER: Final = ".htcgrid-store"
"""The file that tells the store's folder from that below a mount which is not there."""

_PART = 1024 * 1024
_LONGEST_NAME = 240
"""Most bytes of a file's name that holds a key; POSIX file systems take 255."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOST = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN})
"""What an open folder says for good when its mount has been lost: of NFS, of FUSE, and of Lustre."""
_LOOK_AGAIN = 0.2
"""Seconds between two looks for a file that another host has just written."""


class FilesystemStore:
    """A `PayloadStore`, `PayloadRelay` and `TendedStore` below one folder. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        patience: timedelta = timedelta(seconds=5),
        keep: timedelta | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Open the store in `folder`, which `prepare` has made; where a file system is mounted, it is made here.

        Args:
            folder: where the payloads lie.
            patience: how long to look for a file that is not there: NFS lets hosts see new files late, since each keeps
                for some seconds what it has not found ("nfs(5)", lookupcache).
            keep: how long payloads are kept; without it, for good.
            sleep: waits for so many seconds.
            now: seconds since the epoch.

        Raises:
            StoreMisconfigured: the folder is not that of a store, most likely because nothing is mounted there.
        """
        # All is done below this open folder: if the mount goes away, nothing is written into the folder under it.
        self._folder = folder
        with suppress(OSError):
            if folder.is_mount():
                self.prepare(folder)
        self._opened_root: _OpenFolder | None = _open_root(folder)
        self._patience = patience.total_seconds()
        self._keep = keep
        self._sleep = sleep
        self._now = now

    @staticmethod
    def prepare(folder: Path) -> None:
        """Make a store of the root of a file system, or of any folder. What is there already stays."""
        folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        (folder / MARKER).touch(mode=0o440)

    def close(self) -> None:
        """Let go of the file system, so that it can be unmounted."""
        self._opened_root = None

    def put(self, key: str, data: bytes) -> None:
        """See `PayloadStore.put`.

        Raises:
            StoreFull: the file system or the quota is full.
        """
        place = payload_path(key)
        with self._root(f"did not take {key} ({len(data)} bytes)") as root, _folder_of(place, root) as folder:
            beside = f"{UNFINISHED}{secrets.token_hex(16)}"
            try:
                with _opened(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder, 0o440) as file:
                    _write(file, data, 0)
                    os.fsync(file)
                os.replace(beside, place.name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(beside, dir_fd=folder)
                raise
            os.fsync(folder)

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        return self.read(key, size, 0, size)

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        with self._payload(key, size) as file:
            for offset in range(0, size, _PART):
                yield _read(file, offset, min(_PART, size - offset))

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """See `PayloadRelay.read`."""
        with self._payload(key, size) as file:
            return _read(file, offset, length)

    def put_part(self, key: str, upload: str, offset: int, part: bytes) -> None:
        """See `PayloadRelay.put_part`.

        Raises:
            StoreFull: the file system or the quota is full.
        """
        place = payload_path(key)
        with self._root(f"did not take a part of {key}") as root, _folder_of(place, root) as folder:
            begin = 0 if offset else os.O_CREAT
            try:
                with _opened(_upload_name(key, upload), os.O_WRONLY | begin, folder, 0o640) as file:
                    found = os.fstat(file)
                    if found.st_size < offset:
                        raise PayloadMissing(f"parts of the upload of {key} are missing: begin anew")
                    # What has become the payload holds this part already, and readers see what is written to it.
                    if found.st_nlink == 1:
                        _write(file, part, offset)
                        # Another host may write the next part, and this one may die.
                        os.fsync(file)
            except FileNotFoundError as error:
                raise PayloadMissing(f"no upload of {key} has begun, or it has expired: begin anew") from error

    def finish(self, key: str, upload: str, size: int) -> bool:
        """See `PayloadRelay.finish`."""
        place = payload_path(key)
        with self._root(f"did not finish the upload of {key}") as root, _folder_of(place, root) as folder:
            try:
                with _opened(_upload_name(key, upload), os.O_RDONLY, folder) as file:
                    if os.fstat(file).st_size != size:
                        raise PayloadMissing(f"parts of the upload of {key} are missing: begin anew")
                    os.fsync(file)
                    return self._link(file, _upload_name(key, upload), place.name, folder)
            except FileNotFoundError as error:
                raise PayloadMissing(f"no upload of {key} has begun, or it has expired: begin anew") from error

    def tend(self, pause: Callable[[float], bool]) -> int | None:
        """See `TendedStore.tend`: payloads are swept once a day, by one host."""
        if self._keep is None:
            return None
        with self._root("cannot be swept for payloads that have expired") as root:
            return sweep(root, self._keep, pause, self._now)

    @staticmethod
    def _link(file: int, upload: str, name: str, folder: int) -> bool:
        """Make an upload the payload, if none is there; whether it is."""
        # It keeps its other name, by which a repeated request is known, until it is swept.
        with suppress(FileExistsError):
            os.link(upload, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            os.fsync(folder)
            return True
        payload = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return os.path.samestat(payload, os.fstat(file))

    @contextmanager
    def _payload(self, key: str, size: int) -> Iterator[int]:
        """The open file of a payload that has this size."""
        with self._root(f"did not give {key}") as root:
            file = self._look(key, root)
            try:
                found = os.fstat(file).st_size
                if found != size:
                    raise PayloadCorrupt(f"the payload {key} has {found} bytes, and not {size}")
                yield file
            finally:
                os.close(file)

    def _look(self, key: str, root: int) -> int:
        waited = 0.0
        while True:
            try:
                return os.open(payload_path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError as error:
                if waited >= self._patience:
                    raise PayloadMissing(f"no payload lies under {key}") from error
            self._sleep(_LOOK_AGAIN)
            waited += _LOOK_AGAIN

    @contextmanager
    def _root(self, what: str) -> Iterator[int]:
        """The store's folder; `what` did not happen if the file system fails meanwhile."""
        try:
            root = self._opened_root = self._opened_root or _open_root(self._folder)
        except StoreMisconfigured as error:
            raise StoreUnavailable(f"the file system {what}: {error}") from error
        try:
            yield root.descriptor
        except OSError as error:
            if error.errno in _LOST:
                self._opened_root = None
            kind = StoreFull if error.errno in _FULL else StoreUnavailable
            raise kind(f"the file system {what}: {error.strerror}") from error


class _OpenFolder:
    """A folder that stays open as long as anybody uses it."""

    def __init__(self, folder: Path) -> None:
        self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        # It is not there if the folder could not be opened.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def payload_path(key: str) -> Path:
    """Where a payload lies below the store's folder: two levels of at most 256 folders each, then a file named after
    its key."""
    digest = sha256(key.encode()).hexdigest()
    name = quote(key, safe="")
    return Path(digest[:2], digest[2:4], name if len(name) <= _LONGEST_NAME else digest)


def _open_root(folder: Path) -> _OpenFolder:
    try:
        root = _OpenFolder(folder)
        os.stat(MARKER, dir_fd=root.descriptor)
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise StoreMisconfigured(f"{folder} cannot be opened as a payload store: {error.strerror}") from error
        raise StoreMisconfigured(
            f"{folder} is not a payload store, since it has no file {MARKER}: mount the file system there, "
            "or prepare a new one"
        ) from error
    except OSError as error:
        raise StoreMisconfigured(f"{folder} cannot be opened as a payload store: {error.strerror}") from error
    return root


@contextmanager
def _folder_of(place: Path, root: int) -> Iterator[int]:
    """The open folder of a payload, which is made if it is not there."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        folder = os.open(place.parent, flags, dir_fd=root)
    except FileNotFoundError:
        for one in (place.parent.parent, place.parent):
            with suppress(FileExistsError):
                os.mkdir(one, 0o770, dir_fd=root)
        folder = os.open(place.parent, flags, dir_fd=root)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _opened(name: str, flags: int, folder: int, mode: int = 0) -> Iterator[int]:
    file = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


def _upload_name(key: str, upload: str) -> str:
    """The file of an upload: its name alone opens none of another key."""
    return f"{UNFINISHED}{sha256(f'{upload}/{key}'.encode()).hexdigest()}"


def _write(file: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _read(file: int, offset: int, length: int) -> bytes:
    """So many bytes from there on, fewer where the file ends before."""
    data = os.pread(file, length, offset)
    while len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
        data += more
    return data
