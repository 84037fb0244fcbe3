"""Which pods' deletion costs must change, and which of them first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from htcgrid_eks.objects import Pod

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
BUSY: Final = "1"
"""The cost of a busy pod. A pod without the annotation costs 0."""


@dataclass(frozen=True)
class Change:
    """What the cost of a pod is to become."""

    pod: Pod
    cost: str | None
    """None: the annotation goes."""


def cost_of(pod: Pod) -> str | None:
    """The deletion cost that a pod has; None without one."""
    return pod.metadata.annotations.get(ANNOTATION)


class PendingChanges:
    """The changes that are to be made, the oldest first.

    So each has its turn however few are made at a time, and agents with short tasks, which want another change every
    few seconds, do not go before one with a long task.
    """

    def __init__(self) -> None:
        self._changes: dict[str, Change] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def update(self, pods: Iterable[Pod], busy: Mapping[str, bool]) -> None:
        """Take note of how all pods are, and of who is busy by the uid of the pod. Of whom nothing is known, the cost
        stays."""
        wanted = {
            change.pod.metadata.uid: change
            for pod in pods
            if pod.metadata.uid in busy
            for change in [Change(pod, BUSY if busy[pod.metadata.uid] else None)]
            if change.cost != cost_of(pod)
        }
        kept = [uid for uid, change in self._changes.items() if uid in wanted and wanted[uid].cost == change.cost]
        self._changes = {uid: wanted[uid] for uid in dict.fromkeys([*kept, *wanted])}

    def take(self, most: int) -> list[Change]:
        """The oldest changes. One that is not made comes again with the next update, as the newest."""
        taken = list(self._changes.values())[:most]
        for change in taken:
            del self._changes[change.pod.metadata.uid]
        return taken
