"""Asks agents whether they are busy."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

import urllib3

from htcgrid_eks.objects import Pod

_PARALLEL: Final = 32
_TIMEOUT: Final = urllib3.Timeout(connect=1, read=1)


class Agents:
    """The agents behind pods, which answer `/busy` on `port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        # Agents close each connection after its answer, so none is kept.
        self._http = urllib3.PoolManager(num_pools=1, retries=False, timeout=_TIMEOUT)
        self._threads = ThreadPoolExecutor(_PARALLEL, "ask")

    def busy(self, pods: Sequence[Pod]) -> dict[str, bool]:
        """Who is busy and who is free, by the uid of the pod, of those who answer. Ready never means free."""
        answers = zip(pods, self._threads.map(self._ask, pods), strict=True)
        return {pod.metadata.uid: busy for pod, busy in answers if busy is not None}

    def close(self) -> None:
        """Ask no more."""
        self._threads.shutdown()

    def _ask(self, pod: Pod) -> bool | None:
        address = pod.status.pod_ip
        host = f"[{address}]" if ":" in address else address
        try:
            answer = self._http.request("GET", f"http://{host}:{self._port}/busy", redirect=False)
            return int(answer.data) > 0 if answer.status == HTTPStatus.OK else None
        except (urllib3.exceptions.HTTPError, ValueError):
            return None
