"""A partition: a named pool of agents with task queues of its own, which is a stack of its own too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from htcgrid_events import Priority

PartitionName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""What a partition may be called. Sessions can name it in their options, and it is part of the names of queues,
releases and pools of nodes."""


@dataclass(frozen=True)
class Partition:
    """A partition, as its stack registered it."""

    name: str
    stack: str
    """Who registered it, and alone may change or remove it: the ARN of its stack."""
    queue_urls: Mapping[Priority, str]
    """Its task queues."""
    draining: bool = False
    """Whether it is being removed: sessions that it has go on, and new ones are refused."""
