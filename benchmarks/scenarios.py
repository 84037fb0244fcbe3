"""What is measured. Each scenario runs on a warm grid, and gives its figures by name."""

import os
import select
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import meters
from htcgrid import JSON, Grid
from htcgrid_local import LocalGrid

Figures = dict[str, float]


@dataclass(frozen=True)
class Scenario:
    """One thing to measure: its name, and how one repetition of it goes."""

    name: str
    run: Callable[[LocalGrid, Grid], Figures]


def throughput(tasks: int, chunk_size: int | None) -> Scenario:
    """No-op tasks in one session, from the submission of the first to the result of the last in hand."""

    def run(local: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [{"number": number} for number in range(tasks)]
        before = meters.read(local)
        began = time.perf_counter()
        session = grid.submit(events, chunk_size=chunk_size)
        submitted = time.perf_counter()
        if session.results(timeout=600) != events:
            raise AssertionError("the results are not those of the tasks")
        ended = time.perf_counter()
        session.wait(timeout=60)
        after = meters.read(local)
        requests = after.requests - before.requests
        return {
            "tasks/s": tasks / (ended - began),
            "submit s": submitted - began,
            "agent CPU ms/task": (after.agent_cpu_seconds - before.agent_cpu_seconds) / tasks * 1e3,
            "agent RSS MB at the start": before.agent_rss_mb,
            "agent RSS MB at the end": after.agent_rss_mb,
            "requests/task": requests.total() / tasks,
            **{f"  {name}/task": count / tasks for name, count in requests.most_common(8)},
        }

    size = "automatic chunks" if chunk_size is None else f"chunks of {chunk_size}"
    return Scenario(f"{tasks:,} no-op tasks, {size}", run)


def latency(repetitions: int) -> Scenario:
    """One no-op task at a time, from submission to result in hand."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        times = []
        for number in range(repetitions):
            began = time.perf_counter()
            if grid.submit([{"number": number}]).results(timeout=60) != [{"number": number}]:
                raise AssertionError("the result is not that of the task")
            times.append((time.perf_counter() - began) * 1e3)
        cuts = statistics.quantiles(times, n=100)
        return {"p50 ms": cuts[49], "p90 ms": cuts[89], "p99 ms": cuts[98]}

    return Scenario(f"one no-op task, {repetitions} times", run)


def going_down() -> Scenario:
    """An idle agent, from SIGTERM to its exit. The local grid starts another."""

    def run(local: LocalGrid, grid: Grid) -> Figures:
        # Whoever runs a task is up, also after the last repetition.
        grid.submit([{"number": 0}]).wait(timeout=60)
        agent = os.pidfd_open(local.agents[0].pid)
        try:
            began = time.perf_counter()
            signal.pidfd_send_signal(agent, signal.SIGTERM)
            if not select.select([agent], [], [], 60)[0]:
                raise AssertionError("the agent does not end")
            return {"SIGTERM to exit ms": (time.perf_counter() - began) * 1e3}
        finally:
            os.close(agent)

    return Scenario("an idle agent is told to stop", run)
