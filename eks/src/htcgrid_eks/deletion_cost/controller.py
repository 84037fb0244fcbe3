"""Keeps the deletion costs of a pool's pods in step with who is busy."""

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import urllib3
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from htcgrid_eks.deletion_cost.agents import Agents
from htcgrid_eks.deletion_cost.costs import ANNOTATION, Change, PendingChanges
from htcgrid_eks.deletion_cost.pool import Pool
from htcgrid_eks.objects import Pod, read

_LOG = logging.getLogger(__name__)
_PARALLEL: Final = 8
_TIMEOUT: Final = (3, 10)
_STALE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})
"""What is answered for a pod that is gone, or whose name another has."""


@dataclass(frozen=True)
class Round:
    """What one round found and did."""

    pods: int
    silent: int
    """Pods whose agents did not answer."""
    changed: int
    waiting: int
    """Changes that are left for the next rounds."""


class Controller:
    """Asks the agents of a pool in rounds. Not thread-safe."""

    def __init__(
        self, core: CoreV1Api, pool: Pool, agents: Agents, interval: timedelta, patches_per_second: float
    ) -> None:
        """In each round, one per `interval`, no more pods are patched than `patches_per_second` allows."""
        self._core = core
        self._pool = pool
        self._agents = agents
        self._most = max(1, math.floor(interval.total_seconds() * patches_per_second))
        self._interval = interval.total_seconds()
        self._pending = PendingChanges()
        self._threads = ThreadPoolExecutor(_PARALLEL, "patch")

    def round(self) -> Round:
        """Ask all agents, and change the costs of those that have become busy or free."""
        pods = self._pool.running
        busy = self._agents.busy(pods)
        self._pending.update(pods, busy)
        changed = self._change()
        done = Round(pods=len(pods), silent=len(pods) - len(busy), changed=changed, waiting=len(self._pending))
        if done.changed or done.waiting:
            _LOG.info("costs changed: %s", done)
        return done

    def take_back(self, within: timedelta, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take all costs back, as fast as patches are allowed.

        Costs that nobody keeps up keep free pods and have busy ones chosen.
        """
        end = time.monotonic() + within.total_seconds()
        while True:
            pods = self._pool.running
            self._pending.update(pods, {pod.metadata.uid: False for pod in pods})
            self._change()
            if not self._pending or time.monotonic() + self._interval > end:
                break
            sleep(self._interval)
        _LOG.info("costs taken back, but for %d", len(self._pending))

    def close(self) -> None:
        """Change nothing more."""
        self._threads.shutdown()

    def _change(self) -> int:
        """Make the oldest changes, and give how many were made."""
        return sum(self._threads.map(self._patch, self._pending.take(self._most)))

    def _patch(self, change: Change) -> bool:
        metadata = change.pod.metadata
        # The uid guards against a pod of the same name that came meanwhile.
        body = {"metadata": {"uid": metadata.uid, "annotations": {ANNOTATION: change.cost}}}
        try:
            answer = self._core.patch_namespaced_pod(
                metadata.name, metadata.namespace, body, _preload_content=False, _request_timeout=_TIMEOUT
            )
            self._pool.put(read(Pod, answer))
        except ApiException as error:
            if error.status not in _STALE:
                _LOG.warning("pod %s cannot be patched: %s %s", change.pod, error.status, error.reason)
            return False
        except urllib3.exceptions.HTTPError as error:
            _LOG.warning("pod %s cannot be patched: %s", change.pod, type(error).__name__)
            return False
        return True
