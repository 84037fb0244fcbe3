"""What is measured on one warm grid. Each scenario gives its figures by name."""

import base64
import os
import select
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import psutil

from benchmarks import cost, meters
from benchmarks.raw import seconds_to_move as raw_seconds
from htcgrid import JSON, Grid
from htcgrid_local import LocalGrid

Figures = dict[str, float]
_STAGES = ("submitted_at", "queued_at", "claimed_at", "started_at", "finished_at")


@dataclass(frozen=True)
class Scenario:
    """One thing to measure: its name, and how one repetition of it goes."""

    name: str
    run: Callable[[LocalGrid, Grid], Figures]
    repetitions: int | None = None
    """How often it runs, where that is not left to the command line."""


def throughput(tasks: int, chunk_size: int | None, repetitions: int | None = None) -> Scenario:
    """No-op tasks in one session, from the submission of the first to the result of the last in hand."""

    def run(local: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [{"number": number} for number in range(tasks)]
        before = meters.read(local)
        began = time.perf_counter()
        session = grid.submit(events, chunk_size=chunk_size)
        submitted = time.perf_counter()
        if session.results(timeout=1800) != events:
            raise AssertionError("the results are not those of the tasks")
        ended = time.perf_counter()
        session.wait(timeout=60)
        after = meters.read(local)
        requests, charges = after.requests - before.requests, after.charges - before.charges
        cpu = {part: seconds - before.cpu_seconds.get(part, 0.0) for part, seconds in after.cpu_seconds.items()}
        return {
            "tasks/s": tasks / (ended - began),
            "submit s": submitted - began,
            **{f"CPU us/task: {part}": seconds / tasks * 1e6 for part, seconds in sorted(cpu.items())},
            "client RSS MB": after.client_rss_mb,
            "agent RSS MB": after.agent_rss_mb,
            "requests/task": requests.total() / tasks,
            "write units/task": charges["write units"] / tasks,
            "$ per million tasks": sum(cost.dollars(requests, charges).values()) / tasks * 1e6,
        }

    size = "automatic chunks" if chunk_size is None else f"chunks of {chunk_size}"
    return Scenario(f"{tasks:,} no-op tasks, {size}", run, repetitions)


def streamed(tasks: int) -> Scenario:
    """Events made as they are sent, and results dropped as they come: what the connector itself keeps."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        me = psutil.Process()
        before = most = me.memory_info().rss
        began = time.perf_counter()
        session = grid.submit({"number": number} for number in range(tasks))
        for number, result in enumerate(session.iter_results(timeout=1800)):
            if result != {"number": number}:
                raise AssertionError("the result is not that of the task")
            if number % 10_000 == 0:
                most = max(most, me.memory_info().rss)
        seconds = time.perf_counter() - began
        return {"tasks/s": tasks / seconds, "client RSS MB before": before / 1e6, "client RSS MB": most / 1e6}

    return Scenario(f"{tasks:,} no-op tasks, streamed", run, repetitions=1)


def small_sessions(sessions: int, tasks: int) -> Scenario:
    """Many sessions at once, each of a few tasks."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [{"number": number} for number in range(tasks)]
        began = time.perf_counter()
        open_ones = [grid.submit(events) for _ in range(sessions)]
        if any(session.results(timeout=600) != events for session in open_ones):
            raise AssertionError("the results are not those of the tasks")
        seconds = time.perf_counter() - began
        return {"sessions/s": sessions / seconds, "tasks/s": sessions * tasks / seconds}

    return Scenario(f"{sessions} sessions of {tasks} no-op tasks at once", run)


def latency(repetitions: int) -> Scenario:
    """One no-op task at a time, from submission to result in hand, and the stages on its way."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        times, stages = [], []
        for number in range(repetitions):
            began = time.time()
            session = grid.submit([{"number": number}])
            if session.results(timeout=60) != [{"number": number}]:
                raise AssertionError("the result is not that of the task")
            ended = time.time()
            times.append((ended - began) * 1e3)
            (passed,) = session.timeline()
            marks = [began * 1e3, *(getattr(passed, stage) for stage in _STAGES), ended * 1e3]
            stages.append([max(0.0, later - earlier) for earlier, later in pairwise(marks)])
        cuts = statistics.quantiles(times, n=100)
        names = ("to the API", "rows written", "claimed", "begun", "run", "written, counted, pushed")
        medians = [statistics.median(stage) for stage in zip(*stages, strict=True)]
        return {
            "p50 ms": cuts[49],
            "p90 ms": cuts[89],
            "p99 ms": cuts[98],
            **{f"  {name} ms": value for name, value in zip(names, medians, strict=True)},
        }

    return Scenario(f"one no-op task, {repetitions} times", run)


def realistic(seconds: float, tasks: int, slots: int) -> Scenario:
    """Tasks that take their time and no processor: how much of the slots' time goes into them."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [{"nap": seconds, "number": number} for number in range(tasks)]
        began = time.perf_counter()
        if grid.submit(events).results(timeout=1800) != events:
            raise AssertionError("the results are not those of the tasks")
        taken = time.perf_counter() - began
        return {"efficiency %": 100 * tasks * seconds / slots / taken}

    return Scenario(f"{tasks:,} tasks of {seconds * 1e3:.0f} ms on {slots} slots", run)


def payloads(size: int, tasks: int) -> Scenario:
    """Tasks whose event and result have so many bytes."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [{"number": number, "data": os.urandom(size // 2).hex()} for number in range(tasks)]
        began = time.perf_counter()
        if grid.submit(events).results(timeout=600) != events:
            raise AssertionError("the results are not those of the tasks")
        seconds = time.perf_counter() - began
        return {"tasks/s": tasks / seconds, "MB/s in and out": 2 * tasks * size / seconds / 1e6}

    return Scenario(f"{tasks:,} tasks with {size:,} bytes in and out", run)


def against_raw(size: int, tasks: int, parallel: int) -> Scenario:
    """Tasks whose event and result have so many bytes, which zlib makes little smaller; and the same bytes moved by the
    store's own client library, as many at a time as the grid has slots."""

    def run(local: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [base64.b64encode(os.urandom(size * 3 // 4)).decode() for _ in range(tasks)]
        raw = raw_seconds(local, size, tasks, parallel)
        # As many functions run at a time as will; the embedded AWS takes seconds to start each.
        grid.submit(events).wait(timeout=600)
        began = time.perf_counter()
        if grid.submit(events).results(timeout=600) != events:
            raise AssertionError("the results are not those of the tasks")
        seconds = time.perf_counter() - began
        return {
            "tasks/s": tasks / seconds,
            "MB/s in and out": 2 * tasks * size / seconds / 1e6,
            "raw MB/s in and out": 2 * tasks * size / raw / 1e6,
            "% of raw": 100 * raw / seconds,
        }

    return Scenario(f"{tasks:,} tasks with {size:,} bytes in and out, against the raw store", run, repetitions=1)


def retrieval(tasks: int) -> Scenario:
    """All results of a session that has finished."""

    def run(_: LocalGrid, grid: Grid) -> Figures:
        events: list[JSON] = [{"number": number} for number in range(tasks)]
        session = grid.submit(events)
        session.wait(timeout=600)
        began = time.perf_counter()
        if grid.attach(session.id).results(timeout=600) != events:
            raise AssertionError("the results are not those of the tasks")
        return {"results/s": tasks / (time.perf_counter() - began)}

    return Scenario(f"{tasks:,} results of a finished session", run)


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


def recovery(lease_seconds: int) -> Scenario:
    """An agent is killed in the middle of its tasks: when another one runs them again."""

    def run(local: LocalGrid, grid: Grid) -> Figures:
        session = grid.submit([{"nap": 2.0, "number": number} for number in range(4)], chunk_size=1)
        time.sleep(1.0)
        killed = time.time() * 1e3
        for index in range(len(local.agents)):
            local.kill_agent(index)
        session.wait(timeout=10 * lease_seconds + 120)
        again = max(passed.started_at for passed in session.timeline())
        return {"killed to running again s": (again - killed) / 1e3, "lease s": lease_seconds}

    return Scenario(f"all agents are killed, leases of {lease_seconds} s", run, repetitions=1)


def growth(sizes: Sequence[int]) -> list[Scenario]:
    """Sessions that are larger and larger. The time per task must stay flat."""
    return [throughput(size, None, repetitions=1 if size > 100_000 else None) for size in sizes]
