"""Data that many tasks share: how an event refers to it, and how a tenant puts it into the grid.

Data is named by the SHA-256 of what is stored. An event refers to it by an object of its own, anywhere in its JSON:

    {"$data": {"sha256": "<64 hexadecimal digits>", "bytes": 123, "name": "curves.parquet", "folder": false}}

In its place the task's function finds a text: the path of a read-only file, or folder, whose last part is the name.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from htcgrid_events.limits import MAX_DATA_BYTES, MAX_DATA_NAME_BYTES, MAX_DATA_PER_REQUEST
from htcgrid_events.model import AtMost, Contract, Flag, Request, TimestampMs, Whole, known_fields_of
from htcgrid_events.views import Shown, moment

REFERENCE_FIELD = "$data"
"""The one field of an object that stands for shared data."""


def _file_name(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name has printable characters alone")
    if "/" in name or name in (".", ".."):
        raise ValueError("a name is no path: it has no slash, and is neither . nor ..")
    if len(name.encode()) > MAX_DATA_NAME_BYTES:
        raise ValueError(f"a name has at most {MAX_DATA_NAME_BYTES} bytes in UTF-8")
    return name


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 as lower-case hexadecimal digits."""
DataBytes = Annotated[Whole, Field(ge=0, le=MAX_DATA_BYTES)]
DataName = Annotated[str, Field(min_length=1, max_length=MAX_DATA_NAME_BYTES), AfterValidator(_file_name)]
"""The name of a file or folder: printable, no path, at most as long as file systems allow."""


class DataReference(Contract):
    """Shared data, as an event names it."""

    sha256: Digest
    """Of what is stored: the file, or the tar of a folder."""
    bytes: DataBytes
    """Of what is stored."""
    name: DataName
    """The last part of the path at which tasks find it."""
    folder: Flag = False
    """Whether what is stored is a tar, not compressed, and tasks find the folder that it holds."""

    @classmethod
    def of_event(cls, value: object) -> Self | None:
        """The reference that a JSON value of an event is; none if it is another value.

        Raises:
            ValidationError: it looks like a reference, and is not right.
        """
        if isinstance(value, dict) and value.keys() == {REFERENCE_FIELD}:
            return cls.model_validate(value[REFERENCE_FIELD])
        return None

    def in_event(self) -> dict[str, dict[str, str | int | bool]]:
        """The JSON value that stands for it in an event."""
        return {REFERENCE_FIELD: self.model_dump()}


def _distinct(digests: Sequence[str]) -> None:
    if len(set(digests)) != len(digests):
        raise ValueError("a digest occurs twice")


def _distinct_digests(digests: tuple[str, ...]) -> tuple[str, ...]:
    _distinct(digests)
    return digests


def _distinct_references(references: tuple[DataReference, ...]) -> tuple[DataReference, ...]:
    _distinct([reference.sha256 for reference in references])
    return references


Digests = Annotated[
    tuple[Digest, ...],
    Field(max_length=MAX_DATA_PER_REQUEST),
    BeforeValidator(AtMost(MAX_DATA_PER_REQUEST)),
    AfterValidator(_distinct_digests),
]
"""Distinct digests of shared data."""
References = Annotated[
    tuple[Annotated[DataReference, known_fields_of(DataReference)], ...],
    Field(max_length=MAX_DATA_PER_REQUEST),
    BeforeValidator(AtMost(MAX_DATA_PER_REQUEST)),
    AfterValidator(_distinct_references),
]
"""References to distinct shared data."""


class PutData(Request):
    """`PUT /data/{sha256}`: ask where to upload data, or learn that it is there. Repeating it goes on with the same
    upload: parts that were uploaded stay, and the answer has new URLs for those whose time is over."""

    bytes: DataBytes
    name: DataName
    folder: Flag = False


class DataUpload(Contract):
    """Where to upload data: its parts of `part_bytes` each, and a last one of what is left, each by a PUT to its URL
    with its `Content-Length` and these headers. `POST /data/{sha256}/complete` follows when all are uploaded."""

    urls: Annotated[tuple[str, ...], Field(min_length=1, repr=False)]
    """Of each part, in order. One, of all bytes, where data has at most `part_bytes`."""
    part_bytes: Annotated[int, Field(ge=1)]
    headers: dict[str, str]


class DataPlace(Contract):
    """The answer to `PutData`."""

    reference: DataReference
    """As asked for: an event may hold it once the data is there."""
    there: bool
    expires_at: TimestampMs
    """When the data is forgotten unless it is put or referred to again; where it is not there, its upload."""
    upload: DataUpload | None = None
    """None where the data is there."""


class DataState(StrEnum):
    """What became of data that was put."""

    UPLOADING = "UPLOADING"
    """Not all of it was uploaded and completed: nothing can refer to it yet."""
    THERE = "THERE"
    DELETING = "DELETING"
    """Being deleted: repeat the deletion if it stays."""


class DataRecord(Shown, Contract):
    """`GET /data/{sha256}`, and a line of `GET /data`: data of the tenant."""

    reference: DataReference
    """With the name under which it was put last."""
    state: DataState
    created_at: TimestampMs
    expires_at: TimestampMs
    """When it is forgotten unless it is put or referred to again."""
    needed_until: TimestampMs = 0
    """The last deadline, rounded up to an hour, of sessions that refer to it; 0 if none does."""
    url: Annotated[str | None, Field(repr=False)] = None
    """Where it can be fetched for a short while; not in lists."""

    def _summary(self) -> str:
        kind = "folder" if self.reference.folder else "file"
        return (
            f"{kind} {self.reference.name} {self.state.value}, {self.reference.bytes:,} bytes, {self.reference.sha256}"
        )

    def _details(self) -> dict[str, object]:
        return {
            "bytes": self.reference.bytes,
            "sha256": self.reference.sha256,
            "created": moment(self.created_at),
            "expires": moment(self.expires_at),
            "needed until": moment(self.needed_until),
        }


class DataPage(Contract):
    """`GET /data?after=`: data of the tenant, in the order of digests."""

    data: tuple[DataRecord, ...]
    next_after: Digest | None = None
    """What to give as `after` to go on; none at the end."""


class DataDeleted(Contract):
    """`DELETE /data/{sha256}?force=`: the data is gone. Repeating it changes nothing."""

    sha256: Digest
    deleted: bool
    """Whether there was something to delete."""
