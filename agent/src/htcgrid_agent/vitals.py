"""What an agent says of itself: whether it lives, whether it is ready, and how it fares."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta

from htcgrid_agent.aws.breaker import Breaker
from htcgrid_agent.execution.dispatcher import Dispatcher
from htcgrid_agent.execution.quarantine import Quarantine
from htcgrid_agent.protocol.lease_keeper import LeaseKeeper
from htcgrid_agent.telemetry import probes as health
from htcgrid_agent.telemetry.metrics import Registry
from htcgrid_agent.work.capacity import Load

_LOG = logging.getLogger(__name__)


class Vitals:
    """Looks at the parts of an agent when somebody asks. `stopping` says whether it has been told to stop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        load: Load,
        keeper: LeaseKeeper,
        quarantine: Quarantine,
        breakers: Mapping[str, Breaker],
        metrics: Registry,
        lease: timedelta,
        stopping: Callable[[], bool],
    ) -> None:
        self._dispatcher = dispatcher
        self._load = load
        self._keeper = keeper
        self._quarantine = quarantine
        self._breakers = breakers
        self._metrics = metrics
        self._lease = lease
        self._stopping = stopping
        self._add_gauges()

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Answer probes and Prometheus.

        Raises:
            OSError: the port is taken.
        """
        server = await health.serve(
            host,
            port,
            {
                "/live": lambda: health.yes_or_no(self._not_alive()),
                "/ready": lambda: health.yes_or_no(self._not_ready()),
                "/metrics": lambda: health.metrics(self._metrics.render()),
            },
        )
        _LOG.info("health and metrics are answered on port %d", server.sockets[0].getsockname()[1])
        return server

    def _not_alive(self) -> str | None:
        silent = self._keeper.seconds_since_beat
        return f"no heartbeat for {silent:.0f} s" if silent > self._lease.total_seconds() else None

    def _not_ready(self) -> str | None:
        # Ready never means free: an agent that is busy is as ready as can be.
        if self._stopping():
            return "the agent stops"
        if self._quarantine.active:
            return "in quarantine: workers keep crashing"
        return None if self._dispatcher.usable else "no worker"

    def _add_gauges(self) -> None:
        gauge = self._metrics.gauge
        gauge("htcgrid_agent_workers", "Workers, by what they do.", "state", lambda: self._dispatcher.states)
        gauge(
            "htcgrid_agent_chunks",
            "Chunks in hand, by what is done with them.",
            "stage",
            lambda: {"running": self._load.chunks, "concluding": self._load.concluding},
        )
        gauge("htcgrid_agent_waiting_tasks", "Tasks that wait.", None, lambda: {"": self._load.waiting})
        gauge(
            "htcgrid_agent_breaker_state",
            "0 closed, 1 trying, 2 open.",
            "service",
            lambda: {name: breaker.state for name, breaker in self._breakers.items()},
        )
        gauge(
            "htcgrid_agent_quarantined",
            "Whether nothing is received because workers keep crashing.",
            None,
            lambda: {"": self._quarantine.active},
        )
