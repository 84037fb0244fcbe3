"""What is done when an event says that an instance is about to end."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import boto3
from kubernetes.client import CoreV1Api
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter

from htcgrid_eks.cluster import Cluster, connect
from htcgrid_eks.lifecycle import Lifecycle, LifecycleAction
from htcgrid_eks.node_drain import DrainReport, NodeDrain
from htcgrid_eks.objects import Node, ObjectList, read
from htcgrid_eks.settings import EnvironmentSettings

_LOG = logging.getLogger(__name__)
_SPOT_NOTICE: Final = timedelta(minutes=2)
"""EC2 User Guide, "Spot Instance interruption notices"."""
_PAGE: Final = 500
_TIMEOUT: Final = (3, 30)
"""Seconds to connect, and to wait for an answer."""


class Settings(EnvironmentSettings):
    """Which cluster the drainer serves, and how patient it is."""

    cluster_name: str
    cluster_endpoint: Annotated[str, Field(pattern="^https://")]
    cluster_ca: str
    """The cluster's certificate authority: PEM, in base64."""
    eviction_seconds: NonNegativeInt = 300
    """How long refused evictions are tried again before the pod is deleted."""


class Termination(BaseModel):
    """An Auto Scaling group ends an instance, and waits for its lifecycle hook."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["EC2 Instance-terminate Lifecycle Action"] = Field(alias="detail-type")
    detail: LifecycleAction

    @property
    def instance(self) -> str:
        """The id of the instance."""
        return self.detail.instance


class _Interruption(BaseModel):
    instance: str = Field(alias="instance-id")


class SpotInterruption(BaseModel):
    """EC2 takes a spot instance back."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["EC2 Spot Instance Interruption Warning"] = Field(alias="detail-type")
    time: datetime
    detail: _Interruption

    @property
    def instance(self) -> str:
        """The id of the instance."""
        return self.detail.instance


Ending = Annotated[Termination | SpotInterruption, Field(discriminator="kind")]
"""An event of EventBridge that the drainer takes."""
ENDING: TypeAdapter[Termination | SpotInterruption] = TypeAdapter(Ending)


class NodeDrainer:
    """Drains the nodes of one cluster."""

    def __init__(self, core: CoreV1Api, drain: NodeDrain, lifecycle: Lifecycle, now: Callable[[], datetime]) -> None:
        self._core = core
        self._drain = drain
        self._lifecycle = lifecycle
        self._now = now

    def handle(self, event: Termination | SpotInterruption, time_left: timedelta) -> DrainReport | None:
        """Drain the instance's node within the time that is left; nothing if it is no node of this cluster.

        An Auto Scaling group may then end the instance, unless time was over before the pods were.

        Raises:
            ApiException: the API server does not allow it, or does not work.
            PodsUnknown: the API server did not answer in time.
            urllib3.exceptions.HTTPError: the API server cannot be reached.
            ClientError: the lifecycle action cannot be completed.
        """
        until = self._now() + time_left
        match event:
            case Termination(detail=action):
                report = self._drain_instance(
                    event.instance, until, None, lambda: self._lifecycle.extend(action, self._now())
                )
                if report is None or report.done:
                    self._lifecycle.complete(action)
                return report
            case SpotInterruption():
                ends = event.time + _SPOT_NOTICE
                return self._drain_instance(event.instance, min(until, ends), ends, lambda: None)

    def _drain_instance(
        self, instance: str, until: datetime, host_ends: datetime | None, while_waiting: Callable[[], None]
    ) -> DrainReport | None:
        # A node's name follows from its instance in one of several ways, which its image chooses.
        for node in self._nodes():
            if node.spec.provider_id.rpartition("/")[2] == instance:
                return self._drain.run(node.metadata.name, until, host_ends, while_waiting)
        _LOG.info("instance %s is no node of this cluster", instance)
        return None

    def _nodes(self) -> Iterator[Node]:
        more: str | None = None
        while more != "":
            page = self._core.list_node(limit=_PAGE, _continue=more, _preload_content=False, _request_timeout=_TIMEOUT)
            nodes = read(ObjectList[Node], page)
            yield from nodes.items
            more = nodes.metadata.more


def node_drainer(settings: Settings) -> NodeDrainer:
    """A drainer of the cluster that the settings name."""
    session = boto3.Session()
    cluster = Cluster(settings.cluster_name, settings.cluster_endpoint, settings.cluster_ca)
    core = CoreV1Api(connect(cluster, session))
    drain = NodeDrain(core, timedelta(seconds=settings.eviction_seconds))
    return NodeDrainer(core, drain, Lifecycle(session.client("autoscaling")), lambda: datetime.now(UTC))
