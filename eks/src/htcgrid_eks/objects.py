"""What is read of Kubernetes' objects: a few fields of each, as the API server's JSON has them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Generic, TypeVar, cast

import urllib3
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Item = TypeVar("_Item", bound=BaseModel)
_Model = TypeVar("_Model", bound=BaseModel)


class _Part(BaseModel):
    # All else that the objects have is left out.
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, extra="ignore")


class Owner(_Part):
    """What an object belongs to."""

    kind: str
    controller: bool = False


class ObjectMeta(_Part):
    """The metadata of an object."""

    name: str
    namespace: str = ""
    uid: str
    resource_version: str = ""
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()
    deletion_timestamp: datetime | None = None


class PodSpec(_Part):
    """What a pod is to be."""

    termination_grace_period_seconds: int = 30


class PodStatus(_Part):
    """How a pod is."""

    phase: str = ""
    pod_ip: str = Field(default="", alias="podIP")


class Pod(_Part):
    """A pod."""

    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus

    def __str__(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"


class NodeSpec(_Part):
    """What a node is."""

    provider_id: str = Field(default="", alias="providerID")
    """The instance behind it: `aws:///zone/instance`."""


class Node(_Part):
    """A node."""

    metadata: ObjectMeta
    spec: NodeSpec


class ListMeta(_Part):
    """The metadata of a list, or of a page of one."""

    resource_version: str = ""
    more: str = Field(default="", alias="continue")
    """Asks for the next page; empty on the last."""


class ObjectList(_Part, Generic[_Item]):
    """A list of objects, or a page of one."""

    metadata: ListMeta
    items: tuple[_Item, ...]


def body(answer: object) -> bytes:
    """The body of an answer for which the client was told `_preload_content=False`, which its types do not know."""
    return cast("urllib3.HTTPResponse", answer).data


def read(model: type[_Model], answer: object) -> _Model:
    """The object in such an answer. Models of the client's own would take a hundred times as long."""
    return model.model_validate_json(body(answer))


def lines(answer: object) -> Iterator[bytes]:
    """The lines of such an answer, as they come."""
    with cast("urllib3.HTTPResponse", answer) as response:
        yield from response
