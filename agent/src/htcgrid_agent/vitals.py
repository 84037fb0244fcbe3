"""Answers health probes and shows the state of the agent's parts as metrics."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus

from htcgrid_agent.aws.breaker import CircuitBreaker
from htcgrid_agent.execution.dispatcher import Dispatcher
from htcgrid_agent.execution.quarantine import Quarantine
from htcgrid_agent.protocol.lease_keeper import LeaseKeeper
from htcgrid_agent.shared_data.cache import DataCache
from htcgrid_agent.telemetry import probes as health
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_agent.work.capacity import Capacity
from htcgrid_agent.work.memory import PayloadMemory

_LOG = logging.getLogger(__name__)


class Vitals:
    """The health of one agent. `stopping` says whether it has been told to stop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        capacity: Capacity,
        memory: PayloadMemory,
        keeper: LeaseKeeper,
        quarantine: Quarantine,
        breakers: Mapping[str, CircuitBreaker],
        metrics: Metrics,
        lease: timedelta,
        stopping: Callable[[], bool],
        data: DataCache | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._capacity = capacity
        self._memory = memory
        self._keeper = keeper
        self._quarantine = quarantine
        self._breakers = breakers
        self._metrics = metrics
        self._lease = lease
        self._stopping = stopping
        self._data = data
        self._add_gauges()

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Answer `/live`, `/ready`, `/busy` and `/metrics`.

        Raises:
            OSError: the port is taken.
        """
        server = await health.serve(
            host,
            port,
            {
                "/live": lambda: health.yes_or_no(self._not_alive()),
                "/ready": lambda: health.yes_or_no(self._not_ready()),
                # For those who ask every agent every few seconds, as metrics are 100 times as long.
                "/busy": lambda: health.Answer(HTTPStatus.OK, f"{self._capacity.chunks}\n"),
                "/metrics": lambda: health.metrics(self._metrics.render()),
            },
        )
        _LOG.info("health and metrics are answered on port %d", server.sockets[0].getsockname()[1])
        return server

    def _not_alive(self) -> str | None:
        silent = self._keeper.seconds_since_heartbeat
        return f"no heartbeat for {silent:.0f} s" if silent > self._lease.total_seconds() else None

    def _not_ready(self) -> str | None:
        # Ready never means free: an agent that is busy is as ready as can be.
        if self._stopping():
            return "the agent stops"
        if self._quarantine.active:
            return "in quarantine: workers keep crashing"
        return None if self._dispatcher.usable else "no worker"

    def _add_gauges(self) -> None:
        gauge = self._metrics.add_gauge
        gauge("htcgrid_agent_workers", "Workers, by state.", "state", lambda: self._dispatcher.states)
        gauge(
            "htcgrid_agent_chunks",
            "Chunks in hand, by stage.",
            "stage",
            lambda: {"running": self._capacity.chunks, "concluding": self._capacity.concluding},
        )
        gauge(
            "htcgrid_agent_waiting_tasks", "Tasks that wait for a worker.", None, lambda: {"": self._capacity.waiting}
        )
        gauge(
            "htcgrid_agent_refused_connections",
            "Connections to the Runtime API of a worker from processes that are not its own.",
            None,
            lambda: {"": float(self._dispatcher.refused_connections)},
        )
        if self._data:
            kept = self._data.kept_bytes
            gauge("htcgrid_agent_data_bytes", "Shared data kept on the node.", None, lambda: {"": float(kept())})
        gauge("htcgrid_agent_payload_bytes", "Memory of the payloads in hand.", None, lambda: {"": self._memory.total})
        gauge(
            "htcgrid_agent_breaker_state",
            "Circuit breakers: 0 closed, 1 half-open, 2 open.",
            "service",
            lambda: {name: breaker.state for name, breaker in self._breakers.items()},
        )
        gauge(
            "htcgrid_agent_quarantined",
            "Whether nothing is received because workers keep crashing.",
            None,
            lambda: {"": self._quarantine.active},
        )
