"""How soon a grid is itself again when agents die: figures, and the proof that nothing was lost or doubled."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from htcgrid import JSON, Grid, Session
from htcgrid_chunks.state import ChunkState
from tests.chaos.chaos_grid import LEASE, ChaosGrid, chaos_grid

HEARTBEAT = LEASE / 3
"""How often agents renew their leases."""
_EVERY = 2.0
"""Seconds between kills."""
_BEFORE, _AFTER = 10.0, 15.0
"""Seconds of load without kills."""
_TASKS, _CHUNK, _TASK_SECONDS = 200, 4, 0.05
_AHEAD = 3
"""Sessions under way at a time, so that there is always something to run."""
_DEATHS = 5
_AGAIN = 0.8
"""The share of its former throughput with which a grid counts as itself again."""


@dataclass
class Figures:
    """What was measured. Times in seconds, throughput in tasks a second."""

    kills: int = 0
    tasks: int = 0
    before: float = 0.0
    during: float = 0.0
    after: float = 0.0
    again_after: float = 0.0
    """From the last kill to the first second with the former throughput."""
    taken_over: list[float] = field(default_factory=list)
    """From an agent's death to the next attempt at the chunk that it ran."""
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.kills} hosts killed, one every {_EVERY:g} s; {self.tasks} tasks of {_TASK_SECONDS:g} s",
            f"throughput: {self.before:.1f} tasks/s before, {self.during:.1f} under fire, {self.after:.1f} afterwards",
            f"{_AGAIN:.0%} of the former throughput {self.again_after:.1f} s after the last kill; "
            f"two heartbeats are {2 * HEARTBEAT.total_seconds():.1f} s",
            f"chunks of dead agents ran again after {', '.join(f'{seconds:.1f}' for seconds in self.taken_over)} s; "
            f"lease + 5 s are {LEASE.total_seconds() + 5:.0f} s",
        ]
        return "\n".join(lines + (["BROKEN:", *self.broken] if self.broken else ["no task was lost or doubled"]))


def measure(seed: int, seconds: float) -> Figures:
    """Kill hosts at random for so many seconds under load, then single ones that hold a chunk."""
    rng = random.Random(seed)
    figures = Figures()
    with chaos_grid() as here, Grid.connect(here.local.profile) as grid:
        _under_fire(here, grid, rng, seconds, figures)
        for _ in range(_DEATHS):
            figures.taken_over.append(_takeover(here, grid))
    return figures


def _under_fire(here: ChaosGrid, grid: Grid, rng: random.Random, seconds: float, figures: Figures) -> None:
    began = time.time()
    last_kill = began + _BEFORE
    next_kill, end = last_kill, began + _BEFORE + seconds
    sessions: list[Session] = []
    while (now := time.time()) < end + _AFTER:
        if sum(not here.session(session.id).state.ended for session in sessions) < _AHEAD:
            tasks: list[JSON] = [{"do": "sleep", "seconds": _TASK_SECONDS, "value": n} for n in range(_TASKS)]
            sessions.append(grid.submit(tasks, chunk_size=_CHUNK, max_retries=20, retry_base=0.5))
        if next_kill <= now < end and here.running:
            here.kill_host(rng.choice(here.running))
            last_kill, next_kill = now, next_kill + _EVERY
            figures.kills += 1
        time.sleep(0.1)
    stopped = time.time()
    for session in sessions:
        _judge(here, session, figures)
    finished = _finished(here, sessions)
    figures.tasks = len(sessions) * _TASKS
    # The first seconds go into starting up.
    figures.before = _rate(finished, began + _BEFORE / 2, began + _BEFORE)
    figures.during = _rate(finished, began + _BEFORE, last_kill)
    figures.after = _rate(finished, last_kill, stopped)
    figures.again_after = _again(finished, last_kill, stopped, _AGAIN * figures.before)


def _judge(here: ChaosGrid, session: Session, figures: Figures) -> None:
    values = [task.result for task in session.as_completed()]
    account = session.wait().account
    if sorted(values, key=str) != sorted(range(_TASKS), key=str):
        figures.broken.append(f"session {session.id}: its tasks yielded {Counter(values).most_common(3)}")
    if (account.submitted, account.completed) != (_TASKS, _TASKS):
        figures.broken.append(f"session {session.id}: {account}")
    if any(row.outcomes != "C" * row.size for row in here.rows(session.id)):
        figures.broken.append(f"session {session.id}: its rows do not say that all tasks completed")


def _finished(here: ChaosGrid, sessions: Sequence[Session]) -> list[tuple[float, int]]:
    """When chunks finished (seconds since the epoch), in order, and how many tasks they have."""
    rows = (row for session in sessions for row in here.rows(session.id))
    return sorted((row.stages.finished_at / 1000, row.size) for row in rows)


def _rate(finished: Sequence[tuple[float, int]], start: float, end: float) -> float:
    return sum(size for at, size in finished if start <= at < end) / max(0.001, end - start)


def _again(finished: Sequence[tuple[float, int]], last_kill: float, end: float, wanted: float) -> float:
    """How long after the last kill the first second begins in which there is the wanted throughput."""
    moments = [last_kill + step / 10 for step in range(int((end - last_kill - 1) * 10))]
    return next((at - last_kill for at in moments if _rate(finished, at, at + 1) >= wanted), end - last_kill)


def _takeover(here: ChaosGrid, grid: Grid) -> float:
    """Kill the host that runs a chunk. Gives the seconds until another runs it."""
    session = grid.submit([{"do": "sleep", "seconds": 3, "value": "done"}], max_retries=20)
    row = None
    while row is None or row.state is not ChunkState.RUNNING or not row.owner:
        row = here.row(session.id, 0)
    time.sleep(1)
    agent = next(agent for agent in here.local.agents if row.owner.startswith(f"{agent.name}-"))
    here.kill_host(agent)
    killed = time.time()
    while (row := here.row(session.id, 0)) is None or row.attempt < 2:
        time.sleep(0.05)
    session.results()
    return row.stages.claimed_at / 1000 - killed
