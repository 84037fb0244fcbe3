"""The base of every contract: immutable, closed to unknown fields, and JSON by alias-free names."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

TimestampMs = Annotated[int, Field(ge=0, description="Milliseconds since the Unix epoch.")]
SessionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
SubscriberId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


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
    """What crosses a boundary of the grid. An unknown field is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
