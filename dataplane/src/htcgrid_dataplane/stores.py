"""Opens stores by their names. Other packages add stores of theirs by entry points in the group `htcgrid.stores`.

An entry point is a function that takes the store's settings and the grid's own store on S3, and returns a
`PayloadStore`:

    [project.entry-points."htcgrid.stores"]
    mine = "my_package:open_store"
"""

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol

from htcgrid_dataplane.errors import StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.store import DEFAULT_STORE, PayloadStore
from htcgrid_dataplane.store_settings import (
    FilesystemSettings,
    RedisSettings,
    S3Settings,
    check_settings,
    read_settings,
)
from htcgrid_dataplane.write_through import WriteThroughStore

_LOG = logging.getLogger(__name__)
GROUP: Final = "htcgrid.stores"
FORMER_STORES: Final = "HTCGRID_FORMER_STORES"
"""The setting of agents and functions that names stores in which earlier payloads lie."""
_NOTED_AS: Final[Mapping[str, str]] = {"s3+redis": DEFAULT_STORE}
"""Under which name rows note the payloads of a store, if under another: the bucket has them, whatever the cache has."""
_MOST_TOLD: Final = 100
"""Names of unknown stores that are told once each: rows may note any."""


class Stores:
    """The payload stores of a process, for all its threads: the one to which it writes, and those in which earlier
    payloads lie. Each is opened when it is first asked for."""

    def __init__(self, current: str, settings: Mapping[str, Mapping[str, str]], s3: PayloadStore) -> None:
        """Know the stores.

        Args:
            current: the name of the store to which payloads are written.
            settings: the settings of stores by their names. Those of the bucket alone need none.
            s3: the store on the grid's bucket.
        """
        self._current = current
        self._settings = settings
        self._s3 = s3
        self._opened: dict[str, PayloadStore] = {}
        # One for each: while a store is waited for, payloads of others pass.
        self._opening = {name: threading.Lock() for name in self.names}
        self._told: set[str] = set()

    @property
    def noted(self) -> str:
        """The name by which rows note what is written to the current store."""
        return _noted_as(self._current)

    @property
    def names(self) -> frozenset[str]:
        """The names by which rows may note where a payload lies."""
        return frozenset({DEFAULT_STORE, self.noted, *map(_noted_as, self._settings)})

    @property
    def current(self) -> PayloadStore:
        """The store to write to.

        Raises:
            StoreMisconfigured, StoreUnavailable: see `Opener`.
        """
        return self.of(self.noted)

    @property
    def checkpoints(self) -> PayloadStore:
        """The store to write to what will be replaced under its key: the current one, past a cache in front of it.

        Raises:
            StoreMisconfigured, StoreUnavailable: see `Opener`.
        """
        store = self.current
        return store.durable if isinstance(store, WriteThroughStore) else store

    def of(self, name: str) -> PayloadStore:
        """The store whose payloads are noted under this name.

        Raises:
            StoreMisconfigured: this process knows none of this name; or see `Opener`.
            StoreUnavailable: see `Opener`.
        """
        if name not in self._opening:
            raise StoreMisconfigured(
                f"payloads lie in the store '{name}', of which nothing is known here: give its settings in "
                f"{FORMER_STORES}, under its name"
            )
        with self._opening[name]:
            if name not in self._opened:
                self._opened[name] = self._open(name)
            return self._opened[name]

    def holding(self, name: str) -> PayloadStore:
        """As `of`, for a payload that was noted: a store that is not known here, or not set up well, is one that does
        not answer for now, and no payload of it is lost.

        Raises:
            StoreUnavailable: see above.
        """
        try:
            return self.of(name)
        except StoreMisconfigured as error:
            if name not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(name)
                _LOG.error("a payload cannot be read: %s", error)
            raise StoreUnavailable(str(error)) from error

    def _open(self, name: str) -> PayloadStore:
        if name == self.noted:
            return open_store(self._current, self._settings.get(self._current, {}), self._s3)
        return self._s3 if name == DEFAULT_STORE else open_store(name, self._settings[name], self._s3)


def _noted_as(store: str) -> str:
    return _NOTED_AS.get(store, store)


class Opener(Protocol):
    """Opens a store."""

    def __call__(self, settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
        """Open the store that `settings` describe; `s3` is the one on the grid's bucket.

        Raises:
            StoreMisconfigured: a setting is wrong, or the store cannot keep payloads safely.
            StoreUnavailable: the store does not answer.
        """


def open_store(name: str, settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """Open the store that has this name.

    Raises:
        StoreMisconfigured: there is none of this name, or see `Opener`.
        StoreUnavailable: see `Opener`.
    """
    if name in _OURS:
        return _OURS[name](settings, s3)
    opener: Opener = _strangers(name)[name].load()
    return opener(settings, s3)


def check_store(name: str, settings: Mapping[str, str]) -> None:
    """See that there is a store of this name, and that its settings are right as far as that can be seen without it.

    Raises:
        StoreMisconfigured: there is none, or a setting is missing or wrong.
    """
    if name not in _OURS:
        _strangers(name)
    check_settings(name, settings)


def _strangers(name: str) -> Mapping[str, EntryPoint]:
    """The stores of other packages, of which this is one."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise StoreMisconfigured(f"there is no store '{name}'; there are: {', '.join(sorted({*_OURS, *points}))}")
    return points


def open_s3(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    read_settings(S3Settings, settings)
    return s3


def open_s3_behind_redis(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`. It opens whether or not Redis answers."""
    from htcgrid_dataplane.redis import RedisStore
    from htcgrid_dataplane.redis_client import connect

    place = read_settings(RedisSettings, settings)
    cache = RedisStore(lambda: connect(place), place.keep, patience=timedelta(0), replicated=False)
    return WriteThroughStore(s3, cache)


def open_redis(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    from htcgrid_dataplane.redis import RedisStore
    from htcgrid_dataplane.redis_client import connect

    place = read_settings(RedisSettings, settings)
    patience = timedelta(seconds=place.patience_seconds)
    store = RedisStore(lambda: connect(place), place.keep, patience)
    store.check()
    return store


def open_filesystem(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    from htcgrid_dataplane.exported import ExportedStore, RangedStore
    from htcgrid_dataplane.filesystem import FilesystemStore

    place = read_settings(FilesystemSettings, settings)
    if place.folder is not None:
        return FilesystemStore(place.folder, timedelta(seconds=place.patience_seconds), place.keep)
    if not isinstance(s3, RangedStore):
        raise StoreMisconfigured("what a file system exports is read with the grid's bucket, which is not reached here")
    return ExportedStore(s3, place.export_prefix or "")


_OURS: Final[Mapping[str, Opener]] = {
    "filesystem": open_filesystem,
    "redis": open_redis,
    "s3": open_s3,
    "s3+redis": open_s3_behind_redis,
}
"""Not by entry points: the layer of the functions holds modules, and no metadata of packages."""
