"""Runs sessions on a grid while it is disturbed, lets it come to rest, and judges."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from htcgrid import Account, Grid
from htcgrid_chunks.lease_rules import (
    GRACE,
    OVERDUE,
)
from htcgrid_chunks.state import ChunkState
from tests.chaos.chaos_grid import ChaosGrid, chaos_grid, left_behind
from tests.chaos.faults import Faults, faults_of
from tests.chaos.invariants import Evidence, broken
from tests.chaos.sessions import KINDS, Run, start

AT_ONCE = 5
"""Sessions that are under way at a time."""
_BETWEEN_FAULTS = 1.0
"""Seconds, on average."""
_PATIENCE = 90.0
"""Seconds. A grid at which nothing has happened for so long, though time was made to pass, will not come to rest."""
_USERS_WAIT = 900.0
"""Seconds. Longer than any run, so that it is the driver who says that something hangs."""
_QUIET_SECONDS = 3.0
"""A session that has not moved for so long needs the workflow that looks after what was lost."""
_LONG_AGO = max(GRACE, OVERDUE) + timedelta(seconds=30)


@dataclass(frozen=True)
class Schedule:
    """What will be done, all of it drawn from the seed."""

    seed: int
    seconds: float
    strikes: tuple[tuple[float, str], ...]
    """After how many seconds which fault is done."""
    kinds: tuple[str, ...]
    """The kinds of sessions in the order in which they begin; it is gone through again and again."""
    store: str
    """Where large payloads lie."""

    @classmethod
    def drawn(cls, seed: int, seconds: float, store: str = "s3") -> "Schedule":
        """The schedule of a seed."""
        rng = random.Random(seed)
        kinds = rng.sample(sorted(KINDS), len(KINDS))
        return cls(seed, seconds, tuple(_strikes(rng, seconds, sorted(faults_of(store)))), tuple(kinds), store)

    def __str__(self) -> str:
        strikes = "\n".join(f"  {after:6.1f} s  {name}" for after, name in self.strikes)
        title = f"seed {self.seed}, {self.seconds:.0f} s of faults, store {self.store}"
        return f"{title}\nsessions: {', '.join(self.kinds)}\n{strikes}"


@dataclass
class Report:
    """What was done, and what came of it."""

    schedule: Schedule
    faults: Counter[str]
    sessions: Counter[str]
    account: Account
    recovered: Counter[str]
    """What the workflow for expired leases did, as it told the bus."""
    requests: Counter[str]
    rest_seconds: float
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ["faults:"]
        lines += [f"  {count:6d}  {name}" for name, count in sorted(self.faults.items())]
        lines += ["sessions:", *(f"  {count:6d}  {name}" for name, count in sorted(self.sessions.items()))]
        lines += ["recovered by the workflow for expired leases:"]
        lines += [f"  {count:6d}  {name}" for name, count in sorted(self.recovered.items())] or ["       0"]
        account = self.account
        lines += [
            f"account: {account.submitted} tasks submitted = {account.completed} completed + {account.failed} failed "
            f"+ {account.cancelled} cancelled",
            f"requests to AWS: {self.requests.total()}, {self.requests.total() / max(1, account.submitted):.1f} a task",
            f"at rest {self.rest_seconds:.1f} s after the last fault",
        ]
        if self.broken:
            lines += ["BROKEN:", *(f"  {each}" for each in self.broken)]
            minutes = self.schedule.seconds / 60
            lines.append(
                f"to repeat: make chaos SEED={self.schedule.seed} MINUTES={minutes:g} STORE={self.schedule.store}"
            )
        else:
            lines.append("every invariant holds")
        return "\n".join(lines)


def run(schedule: Schedule) -> Report:
    """Do what the schedule says on a grid of its own, and judge."""
    with chaos_grid(schedule.store) as here:
        evidence, faults, rest_seconds = _live_through(here, schedule)
        found = broken(evidence)
        mark = here.mark
    found += [f"10 no process is left behind: {process}" for process in left_behind(mark)]
    ended = [status.account for run in evidence.runs for status in run.verdicts[-1:]]
    recovered = Counter(
        event["detail"]["action"] for event in here.bus_events if event["detail-type"] == "Chunk Recovered"
    )
    return Report(
        schedule=schedule,
        faults=faults.done,
        sessions=Counter(run.kind for run in evidence.runs),
        account=Account(
            submitted=sum(account.submitted for account in ended),
            completed=sum(account.completed for account in ended),
            failed=sum(account.failed for account in ended),
            cancelled=sum(account.cancelled for account in ended),
        ),
        recovered=recovered,
        requests=Counter(evidence.requests),
        rest_seconds=rest_seconds,
        broken=found,
    )


def _live_through(here: ChaosGrid, schedule: Schedule) -> tuple[Evidence, Faults, float]:
    rng = random.Random(schedule.seed)
    faults = Faults(here, random.Random(rng.random()))
    before = Counter(here.requests())
    with Grid.connect(here.local.profile) as grid:
        faults.begin()
        try:
            runs, threads = _disturb(here, grid, faults, schedule, rng)
        finally:
            faults.end()
        rested_from = time.monotonic()
        _rest(here, runs, threads)
        rest_seconds = time.monotonic() - rested_from
    used = Counter(here.requests()) - before
    return Evidence(here, runs, used, tuple(here.bus_events)), faults, rest_seconds


def _disturb(
    here: ChaosGrid, grid: Grid, faults: Faults, schedule: Schedule, rng: random.Random
) -> tuple[list[Run], list[threading.Thread]]:
    runs: list[Run] = []
    threads: list[threading.Thread] = []
    strikes = list(schedule.strikes)
    began = time.monotonic()
    deadline = began + schedule.seconds + _USERS_WAIT
    while (now := time.monotonic() - began) < schedule.seconds:
        # The first round is not waited for, so that sessions of every kind meet faults however slow they are.
        if len(runs) < len(KINDS) or sum(thread.is_alive() for thread in threads) < AT_ONCE:
            kind = schedule.kinds[len(runs) % len(KINDS)]
            run, thread = start(kind, KINDS[kind](rng), grid, here.local.profile, deadline)
            runs.append(run)
            threads.append(thread)
        faults.sessions = [run.session_id for run in runs if run.acknowledged]
        # What finds nothing to hit is tried until the next one is due.
        while len(strikes) > 1 and strikes[1][0] <= now:
            del strikes[0]
        if strikes and strikes[0][0] <= now and faults.strike(strikes[0][1]):
            del strikes[0]
        time.sleep(0.2)
    return runs, threads


def _rest(here: ChaosGrid, runs: list[Run], threads: list[threading.Thread]) -> None:
    """Wait until all sessions have ended and all messages are gone; meanwhile do what time does for what was lost."""
    moved, moved_at = "", time.monotonic()
    pretended_at = moved_at
    while time.monotonic() - moved_at < _PATIENCE:
        waiting = sum(here.messages(url) for url in (*here.task_queues, here.events_queue))
        alive = [thread for thread in threads if thread.is_alive()]
        if not (alive or waiting):
            return
        shows = f"{waiting} {len(alive)} {len(here.bus_events)}"
        if shows != moved:
            moved, moved_at = shows, time.monotonic()
        elif time.monotonic() - max(moved_at, pretended_at) > _QUIET_SECONDS:
            for run in runs:
                _let_time_pass(here, run)
            here.run_expired_leases()
            pretended_at = time.monotonic()
        time.sleep(0.5)


def _let_time_pass(here: ChaosGrid, run: Run) -> None:
    """Pretend that what waits in a session has waited so long that somebody looks after it."""
    if not run.acknowledged or here.session(run.session_id).state.ended:
        return
    now = time.time() * 1000
    counted = {chunk for account in here.bucket_accounts(run.session_id) for chunk in account.finished}
    for row in here.rows(run.session_id):
        if row.finished:
            if row.key.chunk not in counted:
                here.age(row, _LONG_AGO)
        elif row.state is ChunkState.QUEUED:
            here.age(row, _LONG_AGO)
        elif row.state is not ChunkState.PAUSED and row.claimable_at < now:
            here.expire(row, _LONG_AGO)
    here.make_sweep_due(run.session_id)


def _strikes(rng: random.Random, seconds: float, faults: Sequence[str]) -> Iterator[tuple[float, str]]:
    # Every fault once, in the first half, then whatever comes.
    names = rng.sample(faults, len(faults))
    after = 2.0
    while after < seconds:
        yield after, names.pop() if names else rng.choice(faults)
        after += rng.uniform(0.5, 1.5) * _BETWEEN_FAULTS
