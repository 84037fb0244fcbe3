"""A pool whose agents are simulated: a release of the agents' chart on nodes of KWOK, and queues of its own.

Tests play the agents: they take messages and delete them. What is published about the pool is published by the scaling
service itself, at the pace of the tests.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import helm_python

from htcgrid_chunks.clock import system_clock
from htcgrid_controlplane.outbound.partition_metrics import PartitionMetrics
from htcgrid_controlplane.outbound.sqs import MessageSender
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.rules.scaling import Demand, Work
from htcgrid_controlplane.rules.scaling import Pool as ScaledPool
from htcgrid_controlplane.services.scaling import Scaling
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_controlplane.storage.partitions import PartitionStore, minute_of
from htcgrid_events import Priority
from htcgrid_local.keys import REGION
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.grid import KubernetesGrid
from tests.kubernetes.pool import CHART, Values, merged
from tests.kubernetes.simulated import ANNOTATION
from tests.kubernetes.waiting import until

RELEASE: Final = "agents"
MAX_AGENTS: Final = 200
TARGET: Final = timedelta(seconds=60)
_SECRET: Final = "scaling-aws"
_SELECTOR: Final = f"app.kubernetes.io/instance={RELEASE}"
_BATCH: Final = 10


class SimulatedPool:
    """A partition of its own, with the name of its namespace."""

    def __init__(self, cluster: Cluster, grid: KubernetesGrid, name: str) -> None:
        self._cluster, self._grid, self.name = cluster, grid, name
        self._sqs = grid.client("sqs")
        self._urls = {each: self._sqs.create_queue(QueueName=f"{name}-{each}")["QueueUrl"] for each in Priority}
        self._partitions = PartitionStore(grid.client("dynamodb"), grid.local.outputs["PartitionsTable"])
        known = KnownPartitions(lambda: [Partition(name, "", self._urls)], system_clock)
        self._scaling = Scaling(
            queues=TaskQueues(MessageSender(self._sqs), known),
            known=known,
            partitions=self._partitions,
            metrics=PartitionMetrics(grid.client("cloudwatch"), "htcgrid"),
            pool=ScaledPool(workers=1, target=TARGET),
            clock=system_clock,
        )
        self._helm = helm_python.Config(kubeconfig_path=cluster.kubeconfig, namespace=name)

    def install(self, values: Mapping[str, Any]) -> None:
        """Install the chart, with these values beside those of every simulated pool."""
        self._cluster.new_namespace(self.name)
        environment = self._grid.keda_environment
        keys = {key: value for key, value in environment.items() if "KEY" in key}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _SECRET}, "stringData": keys}
        self._cluster.apply(secret, self.name)
        self._helm.install(str(CHART), RELEASE, merged(self._values(), values))

    def uninstall(self) -> None:
        """Remove the release and its queues, and wait until its pods are gone."""
        self._helm.uninstall(RELEASE, ignore_not_found=True)
        until(lambda: not self.pods(), f"no pod of {self.name} is left")
        for url in self._urls.values():
            self._sqs.delete_queue(QueueUrl=url)

    # --- its pods ---

    def pods(self) -> list[Any]:
        """All its pods."""
        return self._cluster.pods(self.name, _SELECTOR)

    def agents(self) -> int:
        """How many agents run."""
        return len(self._cluster.ready_pods(self.name, _SELECTOR))

    def wanted(self) -> int:
        """How many the autoscaler has asked for."""
        return self._cluster.apps.read_namespaced_deployment(RELEASE, self.name).spec.replicas or 0

    def wait_for(self, agents: int) -> None:
        """Return once so many agents run and no other pod is there, publishing meanwhile what is wanted."""

        def reached() -> bool:
            self.publish()
            return self.agents() == len(self.pods()) == agents

        until(reached, f"{agents} agents in {self.name}", every=1)

    # --- its work ---

    def publish(self) -> Demand:
        """Publish what is wanted, as the scaling function does once a minute."""
        return self._scaling.publish(self.name)

    def know(self, chunks: int, seconds: float) -> None:
        """Let it be known that so many chunks of one task took so many seconds each."""
        work = Work(chunks, chunks, int(chunks * seconds * 1_000_000))
        self._partitions.add_work(self.name, minute_of(system_clock()), work)

    def send(self, chunks: int, priority: Priority = Priority.NORMAL) -> None:
        """Queue messages."""
        for start in range(0, chunks, _BATCH):
            entries = [{"Id": str(each), "MessageBody": "{}"} for each in range(start, min(start + _BATCH, chunks))]
            self._sqs.send_message_batch(QueueUrl=self._urls[priority], Entries=entries)

    def hold(self, chunks: int) -> list[str]:
        """Take messages, as agents do. Gives their receipts."""
        receipts: list[str] = []
        while len(receipts) < chunks:
            answer = self._sqs.receive_message(
                QueueUrl=self._urls[Priority.NORMAL],
                MaxNumberOfMessages=min(_BATCH, chunks - len(receipts)),
                VisibilityTimeout=3600,
            )
            receipts += [each["ReceiptHandle"] for each in answer["Messages"]]
        return receipts

    def finish(self, receipts: list[str]) -> None:
        """Delete messages that are held."""
        for receipt in receipts:
            self._sqs.delete_message(QueueUrl=self._urls[Priority.NORMAL], ReceiptHandle=receipt)

    def empty(self) -> None:
        """Delete all messages."""
        for url in self._urls.values():
            self._sqs.purge_queue(QueueUrl=url)

    def _values(self) -> Values:
        tolerations: list[Mapping[str, str]] = [{"key": ANNOTATION, "operator": "Exists"}]
        return {
            "region": REGION,
            "partition": self.name,
            "longestTaskSeconds": 30,
            "grid": {
                "name": "htcgrid",
                "chunksTable": self._grid.local.outputs["ChunksTable"],
                "taskQueueUrls": {each.value: url for each, url in self._urls.items()},
                "taskEventsQueueUrl": self._grid.local.outputs["TaskEventsQueueUrl"],
                "dataBucket": self._grid.local.outputs["DataBucket"],
                "endpointUrl": self._grid.endpoint_url,
            },
            "credentials": {"source": "secret", "secretName": _SECRET, "scalingSecretName": _SECRET},
            # Nobody pulls them: KWOK says that they run.
            "agent": {"image": "example.org/agent:1", "imagePullPolicy": "Never", "cpu": 100, "memory": 256},
            "worker": {
                "image": "example.org/worker:1",
                "imagePullPolicy": "Never",
                "minCPU": 900,
                "minMemory": 256,
            },
            "function": {"handler": "function.handler"},
            "scaling": {
                "maxAgents": MAX_AGENTS,
                "pollingSeconds": 2,
                "cooldownSeconds": 5,
                "scaleInAfterSeconds": 5,
                "scaleInPercent": 100,
            },
            "scheduling": {"spot": "any", "tolerations": tolerations},
        }
