"""Opens a store by its name. Other packages add stores of theirs by entry points in the group `htcgrid.stores`.

An entry point is a function that takes the store's settings and the grid's own store on S3, and returns a
`PayloadStore`:

    [project.entry-points."htcgrid.stores"]
    mine = "my_package:open_store"
"""

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Final, Protocol

from htcgrid_dataplane.errors import StoreMisconfigured
from htcgrid_dataplane.store import PayloadStore
from htcgrid_dataplane.store_settings import FilesystemSettings, RedisSettings, S3Settings, read_settings

GROUP: Final = "htcgrid.stores"


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
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        raise StoreMisconfigured(f"there is no store '{name}'; there are: {', '.join(sorted(known))}")
    opener: Opener = known[name].load()
    return opener(settings, s3)


def open_s3(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    read_settings(S3Settings, settings)
    return s3


def open_s3_behind_redis(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`. It opens whether or not Redis answers."""
    from htcgrid_dataplane.redis import RedisStore
    from htcgrid_dataplane.redis_client import connect
    from htcgrid_dataplane.write_through import WriteThroughStore

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
