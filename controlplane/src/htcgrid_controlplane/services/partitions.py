"""Registers partitions for their stacks, and removes them once nothing runs there."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.errors import PartitionInUse
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.rules.sweep_schedule import SWEEP_SHARDS
from htcgrid_controlplane.storage.known_partitions import FRESH
from htcgrid_controlplane.storage.partition_registry import PartitionRegistry
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.sweep_index import Due, SweepStore

SETTLED: Final = FRESH + timedelta(seconds=30)
"""From when a partition takes no more sessions until none can come that was begun before: functions know of it after
`FRESH`, and a request ends within 29 s ("Amazon API Gateway quotas")."""
_PAGE: Final = 100
_EVER: Final = 1 << 53
"""A moment (ms) after all others."""


@dataclass(frozen=True)
class Partitions:
    """Which partitions there are, as their stacks say."""

    registry: PartitionRegistry
    open_sessions: SweepStore
    sessions: SessionStore
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    """Waits for so many seconds."""

    def register(self, partition: Partition) -> None:
        """Have sessions run in a partition.

        Raises:
            PartitionTaken: another stack has one of this name.
        """
        self.registry.register(partition)

    def remove(self, name: str, stack: str) -> None:
        """Let a partition take no more sessions, and forget it if it has none. What the stack does not have is removed
        already. The first call takes `SETTLED`.

        Raises:
            PartitionInUse: it has sessions without a verdict. It stays, and takes no more.
        """
        since = self.registry.drain(name, stack, self.clock())
        if since is None:
            return
        self.sleep(max(0.0, SETTLED.total_seconds() - (self.clock() - since) / 1000))
        if left := sum(1 for partition in self._partitions_of_open_sessions() if partition == name):
            raise PartitionInUse(
                f"Partition {name!r} still has {left} open session{'s' if left > 1 else ''}, and takes no new ones: "
                "wait for them or cancel them, and delete the stack again."
            )
        self.registry.remove(name)

    def _partitions_of_open_sessions(self) -> Iterator[str]:
        """The partition of each session without a verdict: a removal is rare, and no index is kept for it."""
        for shard in range(SWEEP_SHARDS):
            after: Due | None = None
            more = True
            while more:
                page, more = self.open_sessions.due(shard, _EVER, after, _PAGE)
                for session in self.sessions.read_many([due.session_id for due in page]):
                    yield session.options.partition
                after = page[-1] if page else None
