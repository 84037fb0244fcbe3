"""The function that the agents of a running grid run, and how they come to run it as it is now."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from htcgrid_local.agents import AgentPool
from htcgrid_local.errors import LocalGridError
from htcgrid_local.function_snapshot import Snapshot, take_snapshot
from htcgrid_local.handler_trial import HandlerTrial
from htcgrid_local.home import Home
from htcgrid_local.processes import Processes
from htcgrid_local.state import Report

_LOG = logging.getLogger(__name__)


def environment_with(environment: Mapping[str, str], snapshot: Snapshot) -> dict[str, str]:
    """The environment of agents that run this version of the function."""
    return {**environment, "HTCGRID_FUNCTION_DIR": str(snapshot.folder)}


class RunningFunction:
    """A folder of the user's, and the agents that run a snapshot of it."""

    def __init__(
        self,
        folder: Path,
        home: Home,
        processes: Processes,
        pool: AgentPool,
        environment: Mapping[str, str],
        report: Report,
    ) -> None:
        """`environment` is that of the agents."""
        self._folder = folder
        self._home = home
        self._processes = processes
        self._pool = pool
        self._environment = environment
        self._report = report
        self._requests = 0
        self._lock = threading.Lock()

    def reload(self) -> str:
        """Have all agents run the function as it is now, and return its digest. Tasks that run are finished first.

        Raises:
            HandlerError: it cannot be copied, or a worker cannot load its handler. The agents run on as before.
            AgentStartError: an agent did not come up again.
        """
        with self._lock:
            snapshot = take_snapshot(self._folder, self._home)
            environment = environment_with(self._environment, snapshot)
            HandlerTrial(self._processes, self._home, environment).wait()
            self._pool.replace(environment)
            self._report.note(function_digest=snapshot.digest)
            _LOG.info("the agents run version %s of the function", snapshot.digest)
            return snapshot.digest

    def carry_out_request(self) -> None:
        """Reload if another process has asked for it, and tell in the state what came of it."""
        if not self._home.reload_request.exists():
            return
        self._home.reload_request.unlink()
        reason = None
        try:
            self.reload()
        except LocalGridError as error:
            reason = str(error)
            _LOG.warning("the function is not reloaded: %s", reason)
        self._requests += 1
        self._report.note(reloads=self._requests, reload_error=reason)
