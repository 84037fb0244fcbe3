"""Which pods of a node must be told before it ends, and how long each may be asked politely."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from htcgrid_eks.objects import Pod

_MIRROR: Final = "kubernetes.io/config.mirror"
"""Marks the mirror of a static pod: the node's own, which nobody else can end."""
_FINISHED: Final = frozenset({"Succeeded", "Failed"})


def pods_to_drain(pods: Iterable[Pod]) -> list[Pod]:
    """All but the finished ones, those of DaemonSets, which would come again at once, and mirrors of static pods."""
    return [pod for pod in pods if not (_has_finished(pod) or _of_daemon_set(pod) or _is_mirror(pod))]


def is_told(pod: Pod) -> bool:
    """Whether the pod is on its way out."""
    return pod.metadata.deletion_timestamp is not None


def force_at(pod: Pod, asked_at: datetime, patience: timedelta, host_ends: datetime | None) -> datetime:
    """From when on the pod is deleted if its eviction is refused, having been asked first at `asked_at`.

    That is when patience ends, or so early that the pod still has its grace before the host ends.
    """
    patient_until = asked_at + patience
    if host_ends is None:
        return patient_until
    return min(patient_until, host_ends - timedelta(seconds=pod.spec.termination_grace_period_seconds))


def _has_finished(pod: Pod) -> bool:
    return pod.status.phase in _FINISHED


def _of_daemon_set(pod: Pod) -> bool:
    return any(owner.controller and owner.kind == "DaemonSet" for owner in pod.metadata.owner_references)


def _is_mirror(pod: Pod) -> bool:
    return _MIRROR in pod.metadata.annotations
