"""What each of our stores must be told, and what is said of it that is wrong."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from htcgrid_dataplane.errors import StoreMisconfigured

_LONGEST_RETENTION: Final = timedelta(days=396)


class S3Settings(BaseModel):
    """The store on S3 needs nothing but the grid's bucket."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KeptSettings(S3Settings):
    """How long a store keeps a payload."""

    keep_hours: Annotated[int, Field(ge=1, le=_LONGEST_RETENTION // timedelta(hours=1))] = 24
    keep_days: Annotated[int, Field(ge=1, le=_LONGEST_RETENTION.days)] | None = None
    """In place of `keep_hours`: CloudFormation, which knows days, cannot multiply."""

    @property
    def keep(self) -> timedelta:
        """How long a payload is kept."""
        return timedelta(days=self.keep_days) if self.keep_days else timedelta(hours=self.keep_hours)


class RedisSettings(KeptSettings):
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
    patience_seconds: Annotated[float, Field(ge=0, le=300)] = 60
    """How long to try again while no node answers, as during a failover."""

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


class FilesystemSettings(S3Settings):
    """Where a shared file system is mounted, or where it exports its files."""

    folder: Path | None = None
    patience_seconds: Annotated[float, Field(ge=0, le=60)] = 5
    """How long to look for a file that is not there."""
    keep_hours: Annotated[int, Field(ge=1, le=_LONGEST_RETENTION // timedelta(hours=1))] | None = None
    """How long a payload is kept after it was written; without it and `keep_days`, for good."""
    keep_days: Annotated[int, Field(ge=1, le=_LONGEST_RETENTION.days)] | None = None
    """In place of `keep_hours`."""
    export_prefix: Annotated[str, Field(pattern="^([^/]+/)*$", max_length=256)] | None = None
    """In place of `folder`, for reading alone: where in the grid's bucket FSx for Lustre exports the store's folder to;
    it ends with a slash."""

    @property
    def keep(self) -> timedelta | None:
        """How long a payload is kept; None for good."""
        if self.keep_days:
            return timedelta(days=self.keep_days)
        return timedelta(hours=self.keep_hours) if self.keep_hours else None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.folder is None) == (self.export_prefix is None):
            raise ValueError("folder must be set, or in its place export_prefix")
        return self


_Model = TypeVar("_Model", bound=S3Settings)
_OURS: Final[Mapping[str, type[S3Settings]]] = {
    "filesystem": FilesystemSettings,
    "redis": RedisSettings,
    "s3": S3Settings,
    "s3+redis": RedisSettings,
}


def check_settings(name: str, settings: Mapping[str, str]) -> None:
    """Look over the settings of one of our stores, and connect to nothing. Those of other stores pass.

    Raises:
        StoreMisconfigured: one is missing or wrong.
    """
    if name in _OURS:
        read_settings(_OURS[name], settings)


def read_settings(model: type[_Model], settings: Mapping[str, str]) -> _Model:
    """The settings of a store.

    Raises:
        StoreMisconfigured: one is missing or wrong.
    """
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            for fault in error.errors()
        )
        raise StoreMisconfigured(f"the settings of the store are not right: {faults}") from error
