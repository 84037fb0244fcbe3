"""The base of every contract: immutable, closed to unknown fields, and JSON by alias-free names."""

from typing import Annotated

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints

TimestampMs = Annotated[int, Field(ge=0, description="Milliseconds since the Unix epoch.")]
SessionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
SubscriberId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Blob = Annotated[Base64Bytes, Field(description="Bytes; base64 in JSON.")]


class Contract(BaseModel):
    """What crosses a boundary of the grid. An unknown field is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
