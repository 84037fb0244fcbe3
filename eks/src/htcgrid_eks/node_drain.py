"""Drains a node that is about to end: no pod of it is to die without having been told."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Final

import urllib3
from kubernetes.client import CoreV1Api, V1DeleteOptions, V1Eviction, V1ObjectMeta, V1Preconditions
from kubernetes.client.exceptions import ApiException

from htcgrid_eks.errors import PodsUnknown
from htcgrid_eks.node_pods import force_at, is_told, pods_to_drain
from htcgrid_eks.objects import ObjectList, Pod, body, read

_LOG = logging.getLogger(__name__)
_POLL: Final = timedelta(seconds=2)
_FIRST_WAIT: Final = timedelta(seconds=1)
_LONGEST_WAIT: Final = timedelta(seconds=15)
_PARALLEL: Final = 16
_TIMEOUT: Final = (3, 10)
"""Seconds to connect, and to wait for an answer."""
_PASSING: Final = (ApiException, urllib3.exceptions.HTTPError)


class Told(StrEnum):
    """What a pod was told, if anything."""

    EVICTED = "evicted"
    DELETED = "deleted"
    GONE = "gone"
    REFUSED = "refused"


@dataclass(frozen=True)
class DrainReport:
    """What became of the pods of a node."""

    node: str
    evicted: int
    deleted: int
    """Those whose eviction was refused for too long."""
    left: tuple[str, ...]
    """Pods that were still there when time was over, as namespace/name."""
    untold: tuple[str, ...]
    """Those of them that nothing could tell."""

    @property
    def done(self) -> bool:
        """Whether the node is empty."""
        return not self.left


@dataclass
class _Refusals:
    first: datetime
    count: int = 0
    again_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.again_at = self.first

    def add(self, now: datetime) -> None:
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(self.count, 10))
        self.count += 1
        self.again_at = now + longest * (0.5 + random.random() / 2)


class NodeDrain:
    """Drains nodes through the API server. A drain may be repeated, also beside another one of the same node."""

    def __init__(
        self,
        core: CoreV1Api,
        patience: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Refused evictions are tried again for `patience`; then the pod is deleted."""
        self._core = core
        self._patience = patience
        self._now = now
        self._sleep = sleep

    def run(
        self,
        node: str,
        until: datetime,
        host_ends: datetime | None = None,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> DrainReport:
        """Cordon a node, have its pods go, and wait for that until `until`.

        `host_ends` says when the host is lost whatever happens, if it is; `while_waiting` is called every few seconds.
        An API server that does not answer is asked again.

        Raises:
            ApiException: the API server does not allow it.
            PodsUnknown: it did not answer in time.
        """
        told: Counter[Told] = Counter()
        refusals: dict[str, _Refusals] = {}
        pods: list[Pod] | None = None
        cordoned = False
        with ThreadPoolExecutor(_PARALLEL, "evict") as threads:
            while pods != []:
                while_waiting()
                # Before the pods are listed, so that none comes unseen.
                cordoned = cordoned or self._cordon(node)
                listed = self._list(node)
                pods = pods if listed is None else listed
                now = self._now()
                if now >= until:
                    break
                waiting = [pod for pod in listed or () if not is_told(pod)]
                due = [pod for pod in waiting if refusals.setdefault(pod.metadata.uid, _Refusals(now)).again_at <= now]
                told.update(threads.map(lambda pod: self._tell(pod, refusals[pod.metadata.uid], host_ends), due))
                self._sleep(min(_POLL, until - now).total_seconds())
        if pods is None:
            raise PodsUnknown(f"The API server did not say in time which pods node {node} has: look at the cluster.")
        report = DrainReport(
            node=node,
            evicted=told[Told.EVICTED],
            deleted=told[Told.DELETED],
            left=tuple(map(str, pods)),
            untold=tuple(str(pod) for pod in pods if not is_told(pod)),
        )
        _LOG.log(logging.INFO if report.done else logging.WARNING, "the node has been drained: %s", report)
        return report

    def _cordon(self, node: str) -> bool:
        """Whether no pod can come to the node any more."""
        try:
            self._core.patch_node(node, {"spec": {"unschedulable": True}}, _request_timeout=_TIMEOUT)
        except _PASSING as error:
            if _is_forbidden(error):
                raise
            if not _is_gone(error):
                _LOG.warning("node %s is not cordoned yet: %s", node, _reason(error))
                return False
        return True

    def _list(self, node: str) -> list[Pod] | None:
        """The pods that are to go; None if that is not known."""
        try:
            listed = self._core.list_pod_for_all_namespaces(
                field_selector=f"spec.nodeName={node}", _preload_content=False, _request_timeout=_TIMEOUT
            )
        except _PASSING as error:
            if _is_forbidden(error):
                raise
            _LOG.warning("the pods of node %s cannot be listed: %s", node, _reason(error))
            return None
        return pods_to_drain(read(ObjectList[Pod], listed).items)

    def _tell(self, pod: Pod, refusals: _Refusals, host_ends: datetime | None) -> Told:
        try:
            self._evict(pod)
        except _PASSING as error:
            if _is_gone(error):
                return Told.GONE
            now = self._now()
            refusals.add(now)
            if now < force_at(pod, refusals.first, self._patience, host_ends):
                _LOG.info("pod %s is not evicted yet: %s", pod, _reason(error))
                return Told.REFUSED
            _LOG.warning("pod %s is deleted, since its eviction is refused: %s", pod, _reason(error))
            return self._delete(pod)
        return Told.EVICTED

    def _evict(self, pod: Pod) -> None:
        eviction = V1Eviction(
            metadata=V1ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace),
            delete_options=_only_this(pod),
        )
        answer = self._core.create_namespaced_pod_eviction(
            pod.metadata.name, pod.metadata.namespace, eviction, _preload_content=False, _request_timeout=_TIMEOUT
        )
        body(answer)  # a Status, and no Eviction as the client expects

    def _delete(self, pod: Pod) -> Told:
        try:
            self._core.delete_namespaced_pod(
                pod.metadata.name, pod.metadata.namespace, body=_only_this(pod), _request_timeout=_TIMEOUT
            )
        except _PASSING as error:
            if _is_gone(error):
                return Told.GONE
            _LOG.error("pod %s cannot be deleted: %s", pod, _reason(error))
            return Told.REFUSED
        return Told.DELETED


def _only_this(pod: Pod) -> V1DeleteOptions:
    # A pod of the same name may have come elsewhere meanwhile.
    return V1DeleteOptions(preconditions=V1Preconditions(uid=pod.metadata.uid))


def _is_forbidden(error: Exception) -> bool:
    # Only an administrator can mend it.
    return isinstance(error, ApiException) and error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def _is_gone(error: Exception) -> bool:
    return isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND


def _reason(error: Exception) -> str:
    # The text of an ApiException holds all headers and the body.
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else type(error).__name__
