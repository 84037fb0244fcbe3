"""Opens a store by its name. Other packages add stores of theirs by entry points in the group `htcgrid.stores`.

An entry point is a function that takes the store's settings and the grid's own store on S3, and returns a
`PayloadStore`:

    [project.entry-points."htcgrid.stores"]
    mine = "my_package:open_store"
"""

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from htcgrid_dataplane.errors import StoreMisconfigured
from htcgrid_dataplane.store import PayloadStore

GROUP: Final = "htcgrid.stores"
_LONGEST_RETENTION: Final = timedelta(days=396)


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


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RedisSettings(_Settings):
    """Where a Redis is, and how one signs in to it."""

    url: str
    """`rediss://host:port`; `redis://` speaks without TLS."""
    cluster: bool = False
    """Whether it is a cluster."""
    user: str = "default"
    auth: Literal["none", "file", "secret", "iam"] = "none"
    """How one signs in: with the password in `password_file` or in `secret`, by IAM as `user` of `cache`, or not."""
    password_file: Path | None = None
    secret: str | None = None
    """Name or ARN of a secret in Secrets Manager: a text, or JSON with `password`."""
    cache: str | None = None
    """Name of the ElastiCache cache, which IAM tokens are for."""
    serverless: bool = False
    """Whether that is a serverless one."""
    ca_file: Path | None = None
    """Certificates that are trusted in place of the system's."""
    keep_hours: Annotated[int, Field(ge=1, le=_LONGEST_RETENTION // timedelta(hours=1))] = 24
    """How long a payload is kept there."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("redis", "rediss")
            or not parts.hostname
            or parts.username
            or parts.path not in ("", "/")
        ):
            raise ValueError("must have the form rediss://host:port")
        return url

    @model_validator(mode="after")
    def _has_what_auth_needs(self) -> Self:
        needed = {"file": "password_file", "secret": "secret", "iam": "cache"}.get(self.auth)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"{needed} must be set, since auth is {self.auth}")
        return self


class FilesystemSettings(_Settings):
    """Where a shared file system is mounted."""

    folder: Path
    patience_seconds: Annotated[float, Field(ge=0, le=60)] = 5
    """How long to look for a file that is not there."""


_Model = TypeVar("_Model", bound=_Settings)


def _read(model: type[_Model], settings: Mapping[str, str]) -> _Model:
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            for fault in error.errors()
        )
        raise StoreMisconfigured(f"the settings of the store are not right: {faults}") from error


def open_s3(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    _read(_Settings, settings)
    return s3


def open_s3_behind_redis(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`. It opens whether or not Redis answers."""
    from htcgrid_dataplane.redis import RedisStore
    from htcgrid_dataplane.redis_client import connect
    from htcgrid_dataplane.write_through import WriteThroughStore

    place = _read(RedisSettings, settings)
    cache = RedisStore(lambda: connect(place), timedelta(hours=place.keep_hours), patience=timedelta(0))
    return WriteThroughStore(s3, cache)


def open_redis(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    from htcgrid_dataplane.redis import RedisStore
    from htcgrid_dataplane.redis_client import connect

    place = _read(RedisSettings, settings)
    store = RedisStore(lambda: connect(place), timedelta(hours=place.keep_hours))
    store.check()
    return store


def open_filesystem(settings: Mapping[str, str], s3: PayloadStore) -> PayloadStore:
    """See `Opener`."""
    from htcgrid_dataplane.filesystem import FilesystemStore

    place = _read(FilesystemSettings, settings)
    return FilesystemStore(place.folder, timedelta(seconds=place.patience_seconds))
