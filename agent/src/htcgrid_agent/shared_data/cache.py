"""The shared data of a node: fetched once, however many agents and tasks want it, and kept while it is used.

Every step may be the last of an agent that is killed: what is found in `files` is complete, since it is moved there at
once, and everything else is removed by whoever next holds the lock of the item.
"""

import contextlib
import errno
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from htcgrid_agent.shared_data.errors import DataUnavailable, DataUnusable, FetchStopped
from htcgrid_agent.shared_data.folder import DataFolder, short
from htcgrid_agent.shared_data.item_lock import ItemLock
from htcgrid_agent.shared_data.room import Room
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, StoreUnavailable, data_key
from htcgrid_dataplane.archive import unpack
from htcgrid_events import DataReference

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 0.05
"""Between two looks at an item that another agent fetches: it may be killed at any time."""
_MAX_NAMES: Final = 64
"""Names under which one item can be found at a time: each takes an inode."""
_DEFAULT_LIMIT: Final = 10 * 1024**3
_SHARE_OF_DISK: Final = 0.8
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Stream = Callable[[str, int], Iterator[bytes]]
"""Reads what lies under a key and has so many bytes in parts: see `PayloadStore.stream`."""


@dataclass(frozen=True, slots=True)
class Item:
    """Shared data of a tenant."""

    tenant: str
    reference: DataReference

    @property
    def description(self) -> str:
        """What it is, for its tenant."""
        return f"The shared data {self.reference.name} (sha256 {self.reference.sha256})"


class Hold:
    """The right to use an item, which is not removed meanwhile."""

    def __init__(self, path: Path, release: Callable[[], None]) -> None:
        self.path = path
        """Where tasks find it."""
        self._release = release

    def release(self) -> None:
        """Give the right back. To be called once."""
        self._release()


@dataclass(slots=True)
class _Held:
    lock: ItemLock
    count: int


def default_limit(folder: DataFolder, used: int) -> int:
    """How many bytes to keep where nobody says: 10 GiB, but no more than most of what the disk allows."""
    return min(_DEFAULT_LIMIT, int((folder.free_bytes() + used) * _SHARE_OF_DISK))


class DataCache:
    """Gives out holds on items. Thread-safe."""

    def __init__(self, folder: DataFolder, limit: int | None, stream: Stream, metrics: Metrics) -> None:
        self._folder = folder
        used = Room(folder, 0, metrics.data_evictions.inc).used()
        # What the disk can never hold is refused at once, and nothing else is removed for it.
        limit = default_limit(folder, used) if limit is None else min(limit, folder.total_bytes())
        self._room = Room(folder, limit, metrics.data_evictions.inc)
        self._stream = stream
        self._metrics = metrics
        self._mutex = threading.Lock()
        self._held: dict[str, _Held] = {}

    @property
    def limit(self) -> int:
        """Most bytes that it keeps."""
        return self._room.limit

    def kept_bytes(self) -> int:
        """How many bytes it keeps, for all agents of the node."""
        return self._room.used()

    def try_hold(self, item: Item) -> Hold | None:
        """A hold on an item if it is there.

        Raises:
            DataUnusable: the item has too many names.
            OSError: the folder cannot be read or written.
        """
        name = self._name(item)
        with self._mutex:
            held = self._held.get(name)
            if held is None:
                lock = self._lock_if_there(name)
                if lock is None:
                    return None
                held = self._held[name] = _Held(lock, 0)
            held.count += 1
        try:
            path = self._named(item, name)
        except BaseException:
            self._release(name)
            raise
        return Hold(path, lambda: self._release(name))

    def fetch(self, item: Item, stopped: threading.Event, used_before: float | None = None) -> Hold:
        """A hold on an item, which is fetched if it is not there, however long that takes.

        To make room, items that were used after `used_before` (seconds since the epoch) are not removed.

        Raises:
            DataUnusable: it is missing, not what was announced, or larger than the limit.
            DataUnavailable: it cannot be fetched for now.
            FetchStopped: `stopped` was set.
        """
        self._room.check(item.reference.bytes, item.description)
        try:
            return self._fetched(item, stopped, used_before)
        except OSError as error:
            if error.errno not in _FULL:
                raise DataUnavailable(f"the folder of shared data cannot be used: {error}") from error
            self._room.free(item.reference.bytes)
            raise DataUnavailable(
                f"the disk of HTCGRID_DATA_DIR is full: {item.reference.bytes} bytes of shared data have no room there"
            ) from error

    def _fetched(self, item: Item, stopped: threading.Event, used_before: float | None) -> Hold:
        name = self._name(item)
        while True:
            hold = self.try_hold(item)
            if hold:
                return hold
            lock = ItemLock.made_for(self._folder.item(name))
            try:
                if lock.take_alone() and not self._folder.place(name).exists():
                    self._make(item, name, lock, stopped, used_before)
                    continue
            finally:
                lock.close()
            if stopped.wait(_LOOK_SECONDS):
                raise FetchStopped("the agent ends")

    def _lock_if_there(self, name: str) -> ItemLock | None:
        lock = ItemLock.of(self._folder.item(name))
        if lock is None:
            return None
        if lock.take_shared() and self._folder.place(name).exists():
            lock.touch()
            return lock
        lock.close()
        return None

    def _named(self, item: Item, name: str) -> Path:
        """The path of an item under the name of the reference. Most items have but one."""
        place = self._folder.place(name)
        path = place / item.reference.name
        if path.exists():
            return path
        with self._folder.locked():
            names = list(place.iterdir())
            if len(names) >= _MAX_NAMES:
                raise DataUnusable(
                    "TooManyNames", f"{item.description} is in use under {_MAX_NAMES} other names already."
                )
            first = next(each for each in names if not each.is_symlink())
            place.chmod(0o755)
            with contextlib.suppress(FileExistsError):
                path.symlink_to(first.name)
            place.chmod(0o555)
        return path

    def _release(self, name: str) -> None:
        with self._mutex:
            held = self._held[name]
            held.count -= 1
            if held.count:
                return
            del self._held[name]
            held.lock.touch()
            held.lock.close()

    def _name(self, item: Item) -> str:
        return self._folder.name(item.tenant, item.reference.sha256, folder=item.reference.folder)

    # --- fetching, while the lock is held alone ---

    def _make(self, item: Item, name: str, lock: ItemLock, stopped: threading.Event, used_before: float | None) -> None:
        began = time.monotonic()
        incoming = self._folder.incoming(name)
        try:
            self._folder.clear_incoming(name)
            self._room.reserve(name, lock, item.reference.bytes, used_before)
            incoming.mkdir()
            self._write(item, incoming / item.reference.name, stopped)
            incoming.rename(self._folder.place(name))
        except BaseException:
            self._folder.clear_incoming(name)
            lock.forget()
            raise
        self._folder.place(name).chmod(0o555)
        _LOG.info(
            "shared data was fetched: %d bytes in %.1f s",
            item.reference.bytes,
            time.monotonic() - began,
            extra={"data": item.reference.sha256, "item": short(name)},
        )

    def _write(self, item: Item, path: Path, stopped: threading.Event) -> None:
        digest = hashlib.sha256()
        parts = self._parts(item, digest.update, stopped)
        try:
            if item.reference.folder:
                unpack(parts, path)
            else:
                with path.open("xb") as file:
                    for part in parts:
                        file.write(part)
                path.chmod(0o444)
        except PayloadMissing as error:
            raise DataUnusable(
                "DataMissing", f"{item.description} is missing: put it again, and submit the tasks again."
            ) from error
        except PayloadCorrupt as error:
            raise DataUnusable("DataCorrupt", f"{item.description} cannot be used: {error}.") from error
        except StoreUnavailable as error:
            raise DataUnavailable(str(error)) from error
        if digest.hexdigest() != item.reference.sha256:
            raise DataUnusable("DataCorrupt", f"{item.description} cannot be used: what is stored has another digest.")

    def _parts(self, item: Item, note: Callable[[bytes], None], stopped: threading.Event) -> Iterator[bytes]:
        stream = self._stream(data_key(item.tenant, item.reference.sha256), item.reference.bytes)
        for part in stream:
            if stopped.is_set():
                raise FetchStopped("the agent ends")
            note(part)
            self._metrics.data_bytes.inc(len(part))
            yield part
