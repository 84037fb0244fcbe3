"""Gathers what finished attempts tell of the work of their partitions, and writes it now and then."""

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

from htcgrid_chunks.clock import Clock
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.rules.scaling import Work
from htcgrid_controlplane.storage.partitions import PartitionStore, minute_of

_LOG = logging.getLogger(__name__)
_PAUSE = timedelta(seconds=10)
"""Shortest time between two writes of a process about one partition: a thousand processes come to a tenth of the writes
that one key takes ("Best practices for designing and using partition keys", DynamoDB)."""


@dataclass(frozen=True)
class Measurements:
    """The work of partitions, as far as it went through this process and has not been written yet.

    What a process holds when it is taken away is lost: the means that are made of it change little.
    """

    partitions: PartitionStore
    clock: Clock
    _gathered: defaultdict[str, Work] = field(default_factory=lambda: defaultdict(Work))
    _written_at: dict[str, int] = field(default_factory=dict)

    def add(self, partition: str, work: Work) -> None:
        """Remember what workers did for a partition."""
        if work.tasks:
            self._gathered[partition] += work

    def write(self) -> None:
        """Write what was gathered about partitions of which nothing was written for a while. It fails in silence but
        for the log, and is tried again: nobody's outcome is to wait for it."""
        now = self.clock()
        due = [
            partition
            for partition in self._gathered
            if now - self._written_at.get(partition, 0) >= _PAUSE / timedelta(milliseconds=1)
        ]
        for partition in due:
            self._written_at[partition] = now
            try:
                self.partitions.add_work(partition, minute_of(now), self._gathered[partition])
            except StorageUnavailable as error:
                _LOG.warning("the work of a partition was not noted: %s", error, extra={"partition": partition})
            else:
                del self._gathered[partition]
