"""Keeps shared data within its limit: what was not used for longest makes room, and never what is in use."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from htcgrid_agent.shared_data.errors import DataUnavailable, DataUnusable
from htcgrid_agent.shared_data.folder import DataFolder, short
from htcgrid_agent.shared_data.item_lock import ItemLock

_LOG = logging.getLogger(__name__)
_LEAST: Final = 64 * 1024
"""Bytes: as much every item counts at least, so that many small ones do not take all inodes of the disk."""


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    size: int
    used_at: float


class Room:
    """Lends out `limit` bytes of the disk to the items of a folder. `evicted` is called for each that is removed."""

    def __init__(self, folder: DataFolder, limit: int, evicted: Callable[[], None]) -> None:
        self._folder = folder
        self.limit = limit
        self._evicted = evicted

    def used(self) -> int:
        """How many bytes all items have, those that are being fetched included."""
        return sum(item.size for item in self._items())

    def check(self, size: int, what: str) -> None:
        """Say whether so many bytes can ever be there at once.

        Raises:
            DataUnusable: they cannot.
        """
        if max(size, _LEAST) > self.limit:
            raise DataUnusable(
                "DataTooLarge",
                f"{what} has {size} bytes, more than the {self.limit} that HTCGRID_DATA_MB and the "
                "disk let an agent's node keep.",
            )

    def reserve(self, name: str, lock: ItemLock, size: int, used_before: float | None = None) -> None:
        """Make room for an item, whose lock is held alone, and note its size.

        Items that were used after `used_before` (seconds since the epoch) are kept.

        Raises:
            DataUnavailable: what is in use, or must be kept, leaves no room.
        """
        with self._folder.locked():
            lock.reserve(0)
            needed = max(size, _LEAST)
            used = self.used() - _LEAST
            for item in sorted(self._items(), key=lambda item: item.used_at):
                if used + needed <= self.limit:
                    break
                if item.name != name and (used_before is None or item.used_at < used_before) and self._evict(item):
                    used -= item.size
            if used + needed > self.limit:
                raise DataUnavailable(
                    f"the cache of shared data is full of what is in use: {used} of its {self.limit} bytes "
                    f"(HTCGRID_DATA_MB), and {size} are needed"
                )
            lock.reserve(size)
            lock.touch()

    def free(self, size: int) -> None:
        """Remove what was not used for longest, until so many bytes are free, or all is in use: the disk is full."""
        with self._folder.locked():
            for item in sorted(self._items(), key=lambda item: item.used_at):
                if size <= 0:
                    return
                if self._evict(item):
                    size -= item.size

    def _items(self) -> Iterator[_Known]:
        with os.scandir(self._folder.items) as entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield _Known(entry.name, max(facts.st_size, _LEAST), facts.st_mtime)

    def _evict(self, item: _Known) -> bool:
        lock = ItemLock.of(self._folder.item(item.name))
        if lock is None:
            return True
        try:
            if not lock.take_alone():
                return False
            # In this order: killed in between, the item is still known, and removed by whoever next needs room.
            self._folder.clear_incoming(item.name)
            place = self._folder.place(item.name)
            if place.exists():
                place.chmod(0o755)
                place.rename(self._folder.incoming(item.name))
                self._folder.clear_incoming(item.name)
                self._evicted()
            lock.forget()
        finally:
            lock.close()
        _LOG.info("shared data was removed from the cache: %d bytes", item.size, extra={"item": short(item.name)})
        return True
