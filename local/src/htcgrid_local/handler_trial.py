"""Does the handler load? Asked of a worker, by the agent's own check, before a grid is called ready."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from htcgrid_local.errors import HandlerError
from htcgrid_local.home import Home
from htcgrid_local.processes import Child, Processes

_LOG_NAME = "handler"
_PREFIX = "htcgrid-agent: "


class HandlerTrial:
    """One run of `htcgrid-agent --check`, which goes on while the grid starts."""

    def __init__(self, processes: Processes, home: Home, environment: Mapping[str, str]) -> None:
        """Start it in the environment of an agent."""
        self._processes = processes
        self._log = home.log(_LOG_NAME)
        self._log.unlink(missing_ok=True)
        self._child: Child = processes.start(
            _LOG_NAME,
            [sys.executable, "-m", "htcgrid_agent", "--check"],
            environment=environment,
            log=self._log,
            folder=home.scratch,
        )

    def wait(self) -> None:
        """Return when a worker has loaded the handler.

        Raises:
            HandlerError: it could not; the message has the error and its trace.
        """
        self._child.process.wait()
        if not self._processes.end(self._child):
            return
        said = self._log.read_text(encoding="utf-8", errors="replace")
        reason = said[said.find(_PREFIX) :].removeprefix(_PREFIX).rstrip() or "the check said nothing"
        raise HandlerError(f"The agents cannot run the function: {reason}\n(see {self._log})")
