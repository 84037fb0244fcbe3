"""The kinds of values that stand in a grid's file."""

from ipaddress import IPv4Network
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_AGENTS: Final = 10_000
"""Most agents of a pool, as the chart of the agents takes them."""
MAX_NODES: Final = 450
"""Most nodes of a managed node group ("Amazon EKS service quotas")."""


class Part(BaseModel):
    """A part of the file. A key that it does not know is refused: whoever wrote it expects an effect."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


AsTuple: Final = BeforeValidator(_as_tuple)
"""JSON has lists alone."""


def _network(text: str) -> str:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise ValueError("must be an IPv4 address range such as 10.0.0.0/18, without bits behind its prefix") from error
    if not 16 <= network.prefixlen <= 28:
        raise ValueError("must be a range of /16 to /28, the sizes that a subnet of a VPC may have")
    return text


Cidr = Annotated[str, AfterValidator(_network)]
"""The address range of a subnet ("Subnet CIDR blocks", Amazon VPC)."""

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
"""An AWS Region, such as `eu-west-1`."""

GridName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9-]{0,30}$")]
"""Part of the names of stacks and queues."""

PartitionName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""The name of a partition, as its stack takes it: part of the names of queues, releases and node pools."""

StorageService = Annotated[
    Literal["S3", "REDIS", "S3+REDIS", "EFS", "FSX"],
    # The first HTC-Grid named a bucket behind it, which is the stack's own now.
    BeforeValidator(lambda value: value.split(" ")[0] if isinstance(value, str) else value),
]
"""Where payloads lie that are too large for rows and messages."""

PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""The name of a pool of nodes, as a label of Kubernetes takes it."""

Agents = Annotated[int, Field(ge=0, le=MAX_AGENTS)]
Nodes = Annotated[int, Field(ge=0, le=MAX_NODES)]


def _whole(value: Any) -> Any:
    """The first HTC-Grid wrote these numbers as texts."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


_Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
_MilliCpu = Annotated[int, Field(ge=10, le=448_000)]
MilliCpu = Annotated[_MilliCpu, BeforeValidator(_whole, json_schema_input_type=_MilliCpu | _Digits)]
"""Processor time in thousandths of a processor."""
_MiB = Annotated[int, Field(ge=32, le=25_165_824)]
MiB = Annotated[_MiB, BeforeValidator(_whole, json_schema_input_type=_MiB | _Digits)]
"""Memory in MiB."""
