"""Which partitions there are, as a process knows it: read anew every few seconds, and whenever one is unknown."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.errors import PartitionDraining, UnknownPartition
from htcgrid_controlplane.rules.partition import Partition

_LOG = logging.getLogger(__name__)
FRESH: Final = timedelta(seconds=10)
"""For how long what was read is good: a thousand processes read a hundred times a second."""
_SOON: Final = timedelta(seconds=1)
"""Time between two readings for names that are unknown, which anybody may send."""


class KnownPartitions:
    """The partitions of the registry."""

    def __init__(self, read: Callable[[], Iterable[Partition]], clock: Clock) -> None:
        """`read` gives the partitions as they are registered now."""
        self._read = read
        self._clock = clock
        self._partitions: Mapping[str, Partition] = {}
        self._read_at = float("-inf")

    @property
    def names(self) -> Collection[str]:
        """Names of all partitions."""
        self._refresh(FRESH)
        return self._partitions.keys()

    def find(self, name: str) -> Partition:
        """The partition of this name.

        Raises:
            UnknownPartition: there is none; says which there are.
        """
        self._refresh(FRESH)
        if name not in self._partitions:
            self._refresh(_SOON)
        if name not in self._partitions:
            there = ", ".join(sorted(self._partitions)) or "none"
            raise UnknownPartition(f"There is no partition {name!r} in this grid; there is {there}.")
        return self._partitions[name]

    def check_open(self, name: str) -> None:
        """Make sure that a partition takes new sessions.

        Raises:
            UnknownPartition: see `find`.
            PartitionDraining: it is being removed; says which others there are.
        """
        if self.find(name).draining:
            others = ", ".join(sorted(each.name for each in self._partitions.values() if not each.draining))
            raise PartitionDraining(f"Partition {name!r} is being removed; there is {others or 'none besides'}.")

    def _refresh(self, longest: timedelta) -> None:
        now = self._clock()
        if now - self._read_at < longest / timedelta(milliseconds=1):
            return
        try:
            self._partitions = {each.name: each for each in self._read()}
        except (ClientError, BotoCoreError) as error:
            # What was read before is better than nothing: partitions change rarely.
            if not self._partitions:
                raise
            _LOG.warning("the registry of partitions could not be read: %s", error)
        self._read_at = now
