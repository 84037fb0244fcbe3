"""The running pods of a pool, kept up to date by a watch."""

import json
import logging
import random
import threading
from typing import Any, Final

import urllib3
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from pydantic import ValidationError

from htcgrid_eks.objects import ObjectList, Pod, lines, read

_LOG = logging.getLogger(__name__)
_WATCH_SECONDS: Final = 60
"""After which a watch is asked for anew, so that a connection that died in silence is noticed."""
_LIST_TIMEOUT: Final = (3, 30)
_WATCH_TIMEOUT: Final = (3, _WATCH_SECONDS + 10)
_LONGEST_PAUSE: Final = 30.0


class _Expired(Exception):
    """Raised when the API server no longer knows the version from which to watch."""


class Pool:
    """The pods of one namespace that a label selector chooses."""

    def __init__(self, core: CoreV1Api, namespace: str, selector: str) -> None:
        self._core = core
        self._namespace = namespace
        self._selector = selector
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}
        self._listed = threading.Event()
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        threading.Thread(target=self._follow, name="watch", daemon=True).start()

    def wait_until_listed(self, seconds: float) -> bool:
        """Whether the pods are known after so many seconds at most."""
        return self._listed.wait(seconds)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    @property
    def running(self) -> list[Pod]:
        """The pods that run, have an address, and are not on their way out."""
        with self._lock:
            return [pod for pod in self._pods.values() if _runs(pod)]

    def put(self, pod: Pod) -> None:
        """Take note of how a pod is, as an answer told it."""
        with self._lock:
            if pod.metadata.uid in self._pods:
                self._pods[pod.metadata.uid] = pod

    def _follow(self) -> None:
        failures = 0
        while not self._closed.is_set():
            try:
                version = self._list()
                failures = 0
                while not self._closed.is_set():
                    version = self._watch(version)
            except _Expired:
                continue
            except (ApiException, urllib3.exceptions.HTTPError, ValidationError, ValueError) as error:
                failures += 1
                _LOG.warning("pods cannot be watched: %s", getattr(error, "reason", "") or type(error).__name__)
                self._closed.wait(min(_LONGEST_PAUSE, 2.0 ** min(failures, 10)) * random.random())

    def _list(self) -> str:
        listed = read(
            ObjectList[Pod],
            self._core.list_namespaced_pod(
                self._namespace,
                label_selector=self._selector,
                _preload_content=False,
                _request_timeout=_LIST_TIMEOUT,
            ),
        )
        with self._lock:
            self._pods = {pod.metadata.uid: pod for pod in listed.items}
        self._listed.set()
        return listed.metadata.resource_version

    def _watch(self, version: str) -> str:
        """Follow what changes after a version, for a while, and give the version at the end."""
        answer = self._core.list_namespaced_pod(
            self._namespace,
            label_selector=self._selector,
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=version,
            timeout_seconds=_WATCH_SECONDS,
            _preload_content=False,
            _request_timeout=_WATCH_TIMEOUT,
        )
        for line in lines(answer):
            event: dict[str, Any] = json.loads(line)
            if event["type"] == "ERROR":
                raise _Expired
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._take(event["type"], Pod.model_validate(event["object"]))
            if self._closed.is_set():
                break
        return version

    def _take(self, kind: str, pod: Pod) -> None:
        with self._lock:
            if kind == "DELETED":
                self._pods.pop(pod.metadata.uid, None)
            else:
                self._pods[pod.metadata.uid] = pod


def _runs(pod: Pod) -> bool:
    return pod.status.phase == "Running" and bool(pod.status.pod_ip) and pod.metadata.deletion_timestamp is None
