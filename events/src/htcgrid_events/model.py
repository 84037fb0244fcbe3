"""The bases of all contracts: immutable, JSON by the names of their fields, and read strictly or tolerantly."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
    model_validator,
)

from htcgrid_events.identifiers import bucket_of
from htcgrid_events.limits import MAX_CHUNKS, MAX_STORED_BYTES, MAX_TASKS

TimestampMs = Annotated[int, Field(ge=0, description="Milliseconds since the Unix epoch.")]
SessionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
SubscriberId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
STORE_NAME = r"^[A-Za-z0-9][A-Za-z0-9+_.-]{0,63}$"
PayloadName = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,6})(\.[0-9a-f]{1,32})?$")]
"""How the inputs or results of a chunk are named within their session: its number, and which edition or attempt."""
UploadName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""Tells uploads of one payload from each other; made by whoever uploads."""
StoreName = Annotated[str, StringConstraints(pattern=STORE_NAME)]
"""The name of a payload store, such as `s3`."""
Whole = Annotated[int, Strict()]
"""A whole number in a JSON text; neither `true` nor `"1"` nor `1.0` is one."""
PayloadSize = Annotated[Whole, Field(ge=1, le=MAX_STORED_BYTES)]
"""Bytes of encoded inputs or results in the data plane."""
PartOffset = Annotated[Whole, Field(ge=0, lt=MAX_STORED_BYTES)]
"""Where in a payload a part of it begins."""
Real = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
TaskIndex = Annotated[Whole, Field(ge=0, lt=MAX_TASKS)]
ChunkNumber = Annotated[Whole, Field(ge=0, lt=MAX_CHUNKS)]
After = Annotated[Whole, Field(ge=-1, lt=MAX_CHUNKS)]
"""The number of a chunk behind which a page begins; -1 for the first page."""
BucketNumber = Annotated[Whole, Field(ge=0, lt=bucket_of(MAX_CHUNKS))]


def _number_of(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if not _DIGITS.fullmatch(text):
        raise ValueError("is not a whole number as it is written in decimal digits")
    return int(text)


_DIGITS = re.compile(r"0|-?[1-9][0-9]{0,37}")
"""One text for each number that DynamoDB stores."""
Written = BeforeValidator(_number_of)
"""For a whole number in an address, or one that names a field of an object: there it is a text."""


def _bytes_of(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error


Blob = Annotated[
    bytes,
    BeforeValidator(_bytes_of, json_schema_input_type=str),
    PlainSerializer(lambda value: base64.b64encode(value).decode(), return_type=str, when_used="json"),
    Field(description="Bytes; base64 in JSON.", json_schema_extra={"contentEncoding": "base64"}),
]


class Contract(BaseModel):
    """A message, event, answer or stored value. Unknown fields are ignored when it is read, so that parts of two
    releases work together in both directions. Errors do not quote what was read: logs are to hold no payloads."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    def to_json(self, *, exclude_none: bool = False, exclude_defaults: bool = False) -> str:
        """The JSON in which it is sent: ASCII alone, since SQS and SNS refuse some characters that JSON allows."""
        return self.model_dump_json(ensure_ascii=True, exclude_none=exclude_none, exclude_defaults=exclude_defaults)


_MAX_UNKNOWN = 10


class Request(Contract):
    """A request to the API. An unknown field is an error: its sender expects an effect that it would not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, value: Any) -> Any:
        # Of a few unknown fields each is an error of its own. Millions of errors would cost seconds and gigabytes.
        if isinstance(value, Mapping) and len(value) > len(cls.model_fields) + _MAX_UNKNOWN:
            raise ValueError(
                f"there are {len(value)} fields, and those that exist are {', '.join(sorted(cls.model_fields))}"
            )
        return value


class AtMost:
    """A validator for a list or mapping of a request: it is refused by its length before its entries are read."""

    def __init__(self, entries: int) -> None:
        self._entries = entries

    def __call__(self, value: Any) -> Any:
        """The value, if it may be read."""
        if isinstance(value, Mapping | Sequence) and len(value) > self._entries:
            raise ValueError(f"at most {self._entries} entries are allowed, not {len(value)}")
        return value


class _KnownFields:
    """Refuses fields that a contract does not know, where a request contains a contract that is read tolerantly
    elsewhere."""

    def __init__(self, contract: type[Contract]) -> None:
        self._contract = contract

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            unknown = sorted(set(map(str, value)) - self._contract.model_fields.keys())
            if unknown:
                known = ", ".join(sorted(self._contract.model_fields))
                raise ValueError(f"there is no field {unknown[0]!r}; the fields are {known}")
        return value


def known_fields_of(contract: type[Contract]) -> BeforeValidator:
    """A validator for a field of a request whose type is `contract`: unknown fields in it are an error."""
    return BeforeValidator(_KnownFields(contract), json_schema_input_type=contract)
