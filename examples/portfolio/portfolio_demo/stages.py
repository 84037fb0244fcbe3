"""Where the time of a session's tasks went, from submission to result, stage by stage."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.table import Table

STAGES = ("submitted", "queued", "claimed", "started", "finished", "notified")
MEANING = {
    "queued": "stored, and its message sent",
    "claimed": "waiting for a free agent",
    "started": "handed to a worker",
    "finished": "run, and its outcome recorded",
    "notified": "counted, and pushed to us",
}


class Timestamps(Protocol):
    """When one task passed each stage, in ms since the epoch; 0 where it has not."""

    @property
    def submitted_at(self) -> int: ...  # noqa: D102
    @property
    def queued_at(self) -> int: ...  # noqa: D102
    @property
    def claimed_at(self) -> int: ...  # noqa: D102
    @property
    def started_at(self) -> int: ...  # noqa: D102
    @property
    def finished_at(self) -> int: ...  # noqa: D102
    @property
    def notified_at(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long tasks took to reach a stage from the one before it, in ms."""

    stage: str
    median_ms: float
    p95_ms: float
    mean_ms: float
    share: float
    """Of the mean time from submission to notification; the stages' shares add up to 1."""


def stage_times(timeline: Iterable[Timestamps]) -> list[StageTime]:
    """Return the time per stage over the tasks that passed every stage; none if no task did."""
    stamps = [(t.submitted_at, t.queued_at, t.claimed_at, t.started_at, t.finished_at, t.notified_at) for t in timeline]
    complete = [stamp for stamp in stamps if all(stamp)]
    if not complete:
        return []
    whole = math.fsum(stamp[-1] - stamp[0] for stamp in complete)
    times = []
    for index, stage in enumerate(STAGES[1:], start=1):
        durations = sorted(float(stamp[index] - stamp[index - 1]) for stamp in complete)
        spent = math.fsum(durations)
        times.append(
            StageTime(
                stage=stage,
                median_ms=percentile(durations, 0.5),
                p95_ms=percentile(durations, 0.95),
                mean_ms=spent / len(durations),
                share=spent / whole if whole else 0.0,
            )
        )
    return times


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the smallest of the ordered values that this fraction of them does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def stage_table(times: Sequence[StageTime]) -> Table:
    """Lay the stages out in the order in which a task passes them."""
    table = Table(title="Where the time of a task went, from submission to result", box=SIMPLE_HEAD, padding=0)
    table.add_column("until")
    for heading in ("median ms", "95 % ms", "mean ms", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("in which it was", no_wrap=True)
    for time in times:
        figures = (f"{time.median_ms:,.0f}", f"{time.p95_ms:,.0f}", f"{time.mean_ms:,.0f}", f"{time.share:.1%}")
        table.add_row(time.stage, *figures, MEANING[time.stage])
    return table
