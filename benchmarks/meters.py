"""Reads what a run has cost: requests at the embedded AWS, and processor time and memory of the grid's processes."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import psutil

from htcgrid_local import LocalGrid


@dataclass(frozen=True)
class Reading:
    """The state of all meters at one moment."""

    requests: Counter[str]
    charges: Counter[str]
    """What AWS charges for beside requests: write units, calls of functions."""
    cpu_seconds: dict[str, float]
    """Processor time by part: client, agent, workers, embedded AWS, functions."""
    agent_rss_mb: float
    """Of the largest agent, workers not counted."""
    client_rss_mb: float


def read(grid: LocalGrid) -> Reading:
    """Read all meters."""
    agents = [psutil.Process(agent.pid) for agent in grid.agents]
    return Reading(
        requests=Counter(grid.counted("requests")),
        charges=Counter(grid.counted("charges")),
        cpu_seconds=_cpu_seconds({agent.pid for agent in agents}),
        agent_rss_mb=max((agent.memory_info().rss for agent in agents), default=0) / 1e6,
        client_rss_mb=psutil.Process().memory_info().rss / 1e6,
    )


def _cpu_seconds(agents: set[int]) -> dict[str, float]:
    seconds: defaultdict[str, float] = defaultdict(float)
    me = psutil.Process()
    workers = {worker.pid for agent in agents for worker in psutil.Process(agent).children(recursive=True)}
    for process in [me, *me.children(recursive=True)]:
        try:
            times, command = process.cpu_times(), " ".join(process.cmdline())
        except psutil.Error:
            continue
        seconds[_part(process.pid, command, me.pid, agents, workers)] += times.user + times.system
    return seconds


def _part(pid: int, command: str, me: int, agents: set[int], workers: set[int]) -> str:
    if pid == me:
        return "client"
    if pid in agents:
        return "agent"
    if pid in workers:
        return "workers"
    return "embedded AWS" if "aws.application" in command else "functions"
