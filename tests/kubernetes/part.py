"""A process of the cluster, which a test may stop and start again."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from htcgrid_local.log_excerpts import last_line
from htcgrid_local.processes import Child, Processes
from tests.kubernetes.places import LOGS
from tests.kubernetes.waiting import until

_GRACE = timedelta(seconds=20)


class Part:
    """One program with its arguments; its words are in `<name>.log`."""

    def __init__(
        self,
        processes: Processes,
        name: str,
        command: Sequence[str | Path],
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = LOGS / f"{name}.log"
        self._processes = processes
        self._command = command
        self._is_ready = is_ready
        self._environment = {"PATH": os.environ["PATH"], "HOME": "/root", **(environment or {})}
        self._folder = folder
        self._child: Child | None = None

    def start(self) -> None:
        """Start it, without waiting for it."""
        self._child = self._processes.start(
            self.name, self._command, environment=self._environment, log=self.log, folder=self._folder
        )

    def wait(self) -> None:
        """Return once it does its work.

        Raises:
            AssertionError: it ended, or does not for minutes.
        """
        until(self._ready, f"{self.name} is ready (see {self.log})")

    def stop(self) -> None:
        """Ask it to end, and end it; one that does not run is fine."""
        child, self._child = self._child, None
        if child is not None:
            self._processes.ask_to_end(child)
            self._processes.end(child, _GRACE)

    def kill(self) -> None:
        """End it at once, as when its host is lost."""
        child, self._child = self._child, None
        if child is not None:
            self._processes.end(child)

    def _ready(self) -> bool:
        assert self._child is not None, f"{self.name} was not started"
        code = self._child.exit_code
        assert code is None, f"{self.name} ended with exit code {code}: {last_line(self.log)} (see {self.log})"
        return self._is_ready()


def answers(url: str, authority: Path | None = None) -> Callable[[], bool]:
    """Whether there is an answer of 200 at `url`, whose certificate `authority` signed."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def look() -> bool:
        try:
            with opener.open(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return look
