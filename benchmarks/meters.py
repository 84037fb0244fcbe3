"""Reads what a run has cost: requests at the embedded AWS, and processor time and memory of the agents."""

import http.client
import json
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from htcgrid_local import LocalGrid


@dataclass(frozen=True)
class Reading:
    """The state of all meters at one moment."""

    requests: Counter[str]
    agent_cpu_seconds: float
    agent_rss_mb: float
    """Of the largest agent, workers not counted."""


def read(grid: LocalGrid) -> Reading:
    """Read all meters."""
    agents = [psutil.Process(agent.pid) for agent in grid.agents]
    times = [agent.cpu_times() for agent in agents]
    return Reading(
        requests=_requests(grid),
        agent_cpu_seconds=sum(time.user + time.system for time in times),
        agent_rss_mb=max(agent.memory_info().rss for agent in agents) / 1e6,
    )


def _requests(grid: LocalGrid) -> Counter[str]:
    address = urlsplit(grid.endpoint_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request("GET", "/_htcgrid/requests")
        return Counter(json.loads(connection.getresponse().read()))
    finally:
        connection.close()
