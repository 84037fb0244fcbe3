"""Tells how many agents each partition wants, for those who start agents."""

from collections.abc import Collection
from dataclasses import dataclass

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.outbound.partition_metrics import PartitionMetrics
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.scaling import Demand, Pool, demand
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_controlplane.storage.partitions import PartitionStore, minute_of

_MINUTES = 15
"""How many minutes with work the means are made of: few, so that they follow the work."""


@dataclass(frozen=True)
class Scaling:
    """Compares the queues of partitions with what is known of their work."""

    queues: TaskQueues
    known: KnownPartitions
    partitions: PartitionStore
    metrics: PartitionMetrics
    pool: Pool
    clock: Clock

    @property
    def names(self) -> Collection[str]:
        """The partitions of the grid."""
        return self.known.names

    def publish(self, partition: str) -> Demand:
        """Publish what a partition wants now."""
        minute = minute_of(self.clock())
        messages = self.queues.messages(partition)
        wanted = demand(messages, self.partitions.last_minutes(partition, _MINUTES), minute, self.pool)
        if messages.in_flight:
            self.partitions.note_in_flight(partition, minute, messages.in_flight)
        self.metrics.put(partition, wanted)
        return wanted
