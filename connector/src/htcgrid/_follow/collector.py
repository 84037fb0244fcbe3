"""What this client knows of one session: the outcome of each task, once, and its verdict."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from htcgrid_events import (
    BUCKET_SIZE,
    ChunkOutcome,
    OutcomeCode,
    PartialOutcome,
    SessionEndedFrame,
    SessionState,
    SessionStatus,
    StopReason,
)
from htcgrid_events.views import counted

RESULTS_KEPT_BYTES = 64 * 1024 * 1024
"""Results of one session that lie here at most. Others are asked for again by whoever reads them, so that a session of
any size takes bounded memory; 64 MB hold the results of a million tasks of 60 bytes each."""


_OPEN = OutcomeCode.OPEN.value


class Arrived(NamedTuple):
    """The outcome of a chunk that has finished, or of some of its tasks while others are run again."""

    outcome: PartialOutcome
    new: str
    """Its letters, with `Q` for the tasks whose outcome was known before."""

    @property
    def finished(self) -> bool:
        """Whether the chunk has finished."""
        return isinstance(self.outcome, ChunkOutcome)


class Collector:
    """Gathers what is known of a session, pushed or polled, in any order, any number of times."""

    def __init__(self, session_id: str, *, results_kept: int = RESULTS_KEPT_BYTES) -> None:
        self.session_id = session_id
        self.arrived: list[Arrived] = []
        """Outcomes in the order in which they became known; each holds something new or finishes its chunk."""
        self.finished_tasks = 0
        """Tasks whose outcome is known."""
        self.failed_tasks = 0
        """Those of them that failed."""
        self.counted_tasks = 0
        """Tasks of finished chunks: those that the grid counts as well."""
        self.cancelled_tasks = 0
        """Those of the counted ones that were cancelled."""
        self.chunks: int | None = None
        """How many chunks the session holds; none while it may grow."""
        self.tasks: int | None = None
        """How many tasks the session holds; none while it may grow."""
        self.state: SessionState | None = None
        """The verdict."""
        self.stop_reason: StopReason | None = None
        """Why the session was stopped, once that is known."""
        self.given_up = False
        """Whether the chunks that are missing will never come."""
        self._numbers: set[int] = set()
        """The finished chunks."""
        self._known: dict[int, str] = {}
        """The letters of the other chunks of which something is known."""
        self._room = results_kept
        self._results_kept = results_kept
        self._changed = asyncio.Event()

    @property
    def summary(self) -> str:
        """What this client knows, as the rest of a line; it asks the grid for nothing."""
        state = "" if self.state is None else f" {self.state.value}"
        finished = self.finished_tasks
        known = counted(finished, "task") if self.tasks is None else f"{finished:,} of {counted(self.tasks, 'task')}"
        failed = f", {self.failed_tasks:,} failed" if self.failed_tasks else ""
        return f"{state}: {known} known to be finished{failed}"

    @property
    def complete(self) -> bool:
        """Whether every chunk of the whole session is here."""
        return self.chunks is not None and len(self._numbers) >= self.chunks

    def take(self, outcomes: Iterable[PartialOutcome]) -> bool:
        """Add outcomes of chunks; what is known of a task stays as it is. Whether anything was new."""
        new = [self._take(outcome) for outcome in outcomes]
        if any(new):
            self.wake()
        return any(new)

    def _take(self, outcome: PartialOutcome) -> bool:
        if outcome.chunk in self._numbers:
            return False
        known = self._known.get(outcome.chunk, _OPEN * outcome.size)
        new = _without(known, outcome.outcomes)
        if isinstance(outcome, ChunkOutcome):
            self._numbers.add(outcome.chunk)
            self._known.pop(outcome.chunk, None)
            self.counted_tasks += outcome.size
            self.cancelled_tasks += outcome.count(OutcomeCode.CANCELLED)
        elif new == _OPEN * outcome.size:
            return False
        else:
            self._known[outcome.chunk] = _together(known, new)
        self.arrived.append(Arrived(self._kept(outcome), new))
        self.finished_tasks += outcome.size - new.count(_OPEN)
        self.failed_tasks += new.count(OutcomeCode.FAILED)
        return True

    def was_read(self, position: int) -> None:
        """Somebody has read the results of this arrival: they need not lie here any longer where room is short."""
        outcome, new = self.arrived[position]
        if outcome.results is not None and self._room < self._results_kept // 2:
            self._room += len(outcome.results)
            self.arrived[position] = Arrived(_lying_elsewhere(outcome, len(outcome.results)), new)

    def close(self, *, chunks: int, tasks: int) -> None:
        """The session holds so much and will not grow."""
        self.chunks, self.tasks = chunks, tasks
        self.wake()

    def end(self, frame: SessionEndedFrame) -> None:
        """The verdict was pushed."""
        self.state = frame.state
        self.tasks = frame.account.submitted
        self.wake()

    def see(self, status: SessionStatus) -> None:
        """The grid was asked how the session stands."""
        if status.state is not SessionState.OPEN:
            self.chunks, self.tasks = status.chunks, status.account.submitted
        if status.state.ended:
            self.state = status.state
        self.stop_reason = status.stop_reason
        self.wake()

    def give_up(self) -> None:
        """The missing chunks will never come."""
        self.given_up = True
        self.wake()

    def missing(self, chunks: int) -> list[tuple[int, int | None]]:
        """Of so many chunks, each bucket that lacks some, and the number after which the first is lacking."""
        lacking = []
        for first in range(0, chunks, BUCKET_SIZE):
            number = first
            while number in self._numbers:
                number += 1
            if number < min(first + BUCKET_SIZE, chunks):
                lacking.append((first // BUCKET_SIZE, number - 1 if number > first else None))
        return lacking

    def wake(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def _kept(self, outcome: PartialOutcome) -> PartialOutcome:
        if outcome.results is None:
            return outcome
        if len(outcome.results) > self._room:
            return _lying_elsewhere(outcome, len(outcome.results))
        self._room -= len(outcome.results)
        return outcome


def _without(known: str, letters: str) -> str:
    """Letters of a chunk, with those of tasks that are known replaced by `Q`."""
    if _OPEN * len(letters) == known:
        return letters
    return "".join(letter if was == _OPEN else _OPEN for letter, was in zip(letters, known, strict=True))


def _together(known: str, new: str) -> str:
    """The letters of all tasks that are known now."""
    return "".join(letter if was == _OPEN else was for letter, was in zip(new, known, strict=True))


def _lying_elsewhere(outcome: PartialOutcome, size: int) -> PartialOutcome:
    """The outcome of a chunk whose results are kept by the grid."""
    return outcome.model_copy(update={"results": None, "stored_bytes": size})
