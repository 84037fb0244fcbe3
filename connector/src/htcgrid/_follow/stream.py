"""Outcomes of the tasks of a session, each once, as they arrive, with large results fetched ahead."""

import asyncio
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from htcgrid.results import Arrival, Lost
from htcgrid_events import OutcomeCode, SessionState, StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from htcgrid._follow.collector import Arrived, Collector
    from htcgrid._follow.fetcher import Fetcher
    from htcgrid._follow.follower import Follower
    from htcgrid._transport.api import Api
    from htcgrid_events import PartialOutcome

_OPEN = OutcomeCode.OPEN.value

_FETCHED_AHEAD = 8
"""Stored results on their way at a time: what bounds the memory they take."""

_PARTS_AT_A_TIME = 256


@dataclass(slots=True)
class _Slot:
    """The place of a part on its way to the reader."""

    part: "Arrival | Lost | None" = None
    """None until its results are here."""
    outcome: "PartialOutcome | None" = None
    """What is fetched; none where nothing needs to be."""
    fetching: "asyncio.Task[Arrival] | None" = None


class ResultStream:
    """One reader's way through a session's results. Readers do not disturb one another."""

    def __init__(
        self, api: "Api", collector: "Collector", follower: "Follower", fetcher: "Fetcher", *, in_order: bool
    ) -> None:
        """`in_order` gives tasks in their order, else as they arrive."""
        self._api = api
        self._collector = collector
        self._follower = follower
        self._fetcher = fetcher
        self._queue: _Ordered | _Arriving = _Ordered(collector) if in_order else _Arriving(collector)
        self._in_order = in_order
        self._slots: deque[_Slot] = deque()
        self._ended = False

    async def next_parts(self) -> list[Arrival | Lost]:
        """What has arrived since the last call, after waiting for something; empty at the end of the session.

        Raises what `Api` raises; the call may then be repeated.
        """
        if self._ended:
            return []
        await self._follower.until(self._advance)
        parts = self._take_ready()
        if not parts:
            self._ended = True
        return parts

    async def why_cancelled(self) -> tuple[SessionState, StopReason | None]:
        """The state in which the session ends or will end, and what stopped it: the cause of its cancelled tasks."""
        collector = self._collector
        if collector.state is None or collector.stop_reason is None:
            collector.see(await self._api.status(collector.session_id))
        if collector.state is not None:
            return collector.state, collector.stop_reason
        stopped = collector.stop_reason
        return SessionState.CANCELLED if stopped is StopReason.CANCELLED else SessionState.TIMED_OUT, stopped

    def stop(self) -> None:
        """Stop what is being fetched."""
        for slot in self._slots:
            if slot.fetching is not None:
                slot.fetching.cancel()
        self._slots.clear()

    def _advance(self) -> bool:
        """Take what has arrived, start fetching what lies elsewhere. Whether the reader has something to do."""
        self._land()
        while len(self._slots) < _PARTS_AT_A_TIME and (slot := self._queue.next()) is not None:
            self._slots.append(slot)
        self._fetch_ahead()
        if self._in_order:
            return bool(self._slots and self._slots[0].part) or self._at_end()
        return any(slot.part for slot in self._slots) or self._at_end()

    def _at_end(self) -> bool:
        return not self._slots and (self._collector.complete or self._collector.given_up)

    def _take_ready(self) -> list[Arrival | Lost]:
        if self._in_order:
            ready = []
            while self._slots and (part := self._slots[0].part) is not None:
                ready.append(part)
                self._slots.popleft()
            return ready
        parts = [slot.part for slot in self._slots if slot.part is not None]
        self._slots = deque(slot for slot in self._slots if slot.part is None)
        return parts

    def _fetch_ahead(self) -> None:
        """Fetch what the reader needs first. What has landed but cannot be read yet counts, since it takes memory."""
        stored = [slot for slot in self._slots if slot.outcome is not None][:_FETCHED_AHEAD]
        for slot in stored:
            if slot.part is None and slot.fetching is None and slot.outcome is not None:
                slot.fetching = asyncio.create_task(self._fetcher.fetch(slot.outcome))
                slot.fetching.add_done_callback(lambda _task: self._collector.wake())

    def _land(self) -> None:
        for slot in self._slots:
            if slot.fetching is not None and slot.fetching.done():
                done, slot.fetching = slot.fetching, None  # so that the caller may try again if it failed
                slot.part = done.result()


class _Arriving:
    """What is new of each chunk as it arrives, and at the end the tasks whose chunks never will."""

    def __init__(self, collector: "Collector") -> None:
        self._collector = collector
        self._position = 0
        self._gaps: Iterator[Lost] | None = None

    def next(self) -> _Slot | None:
        collector = self._collector
        while self._position < len(collector.arrived):
            new = collector.arrived[self._position].new
            self._position += 1
            if new.strip(_OPEN):
                return _slot(collector, self._position - 1, new)
        state = collector.state
        if state is None or not (collector.complete or collector.given_up):
            return None
        if self._gaps is None:
            self._gaps = iter([Lost(gap, state) for gap in _gaps(collector.arrived, collector.tasks)])
        lost = next(self._gaps, None)
        return None if lost is None else _Slot(lost)


class _Ordered:
    """Tasks in their order. What is not due yet waits where it lies."""

    def __init__(self, collector: "Collector") -> None:
        self._collector = collector
        self._position = 0
        self._expected = 0
        self._waiting: list[tuple[int, int]] = []
        """First task and negative position of each arrival that may hold tasks not given yet: a heap, so that the
        newest arrival of a chunk comes before its others."""

    def next(self) -> _Slot | None:
        collector = self._collector
        for position in range(self._position, len(collector.arrived)):
            heappush(self._waiting, (collector.arrived[position].outcome.first_task, -position))
        self._position = len(collector.arrived)
        newest = self._newest()
        if newest is None:
            return self._lost(collector.tasks)
        outcome = collector.arrived[newest].outcome
        at = self._expected - outcome.first_task
        if at < 0:
            return self._lost(outcome.first_task)
        end = _end_of_run(outcome.outcomes, at, final=True)
        if end == at:
            return self._lost(outcome.first_task + _end_of_run(outcome.outcomes, at, final=False))
        self._expected = outcome.first_task + end
        letters = _OPEN * at + outcome.outcomes[at:end] + _OPEN * (outcome.size - end)
        return _slot(collector, newest, letters)

    def _newest(self) -> int | None:
        """The position of the newest arrival of the first chunk that holds tasks not given yet."""
        while self._waiting:
            position = -self._waiting[0][1]
            outcome = self._collector.arrived[position].outcome
            if outcome.first_task + outcome.size > self._expected:
                return position
            heappop(self._waiting)
        return None

    def _lost(self, upto: int | None) -> _Slot | None:
        """The tasks before this one, if they will never come."""
        state = self._collector.state
        if state is None or not self._collector.given_up or upto is None or upto <= self._expected:
            return None
        lost = range(self._expected, upto)
        self._expected = upto
        return _Slot(Lost(lost, state))


def _end_of_run(letters: str, at: int, *, final: bool) -> int:
    """Where the letters from here on cease to be those of final tasks, or of open ones."""
    while at < len(letters) and (letters[at] != _OPEN) is final:
        at += 1
    return at


def _slot(collector: "Collector", position: int, letters: str) -> _Slot:
    """The place of those tasks of an arrival that have a letter other than `Q` here."""
    outcome = collector.arrived[position].outcome
    part = outcome if letters == outcome.outcomes else outcome.model_copy(update={"outcomes": letters})
    if outcome.results is None and outcome.stored_bytes is not None:
        return _Slot(outcome=part)
    collector.was_read(position)
    return _Slot(Arrival(part, outcome.results))


def _gaps(arrivals: "Sequence[Arrived]", tasks: int | None) -> list[range]:
    """The tasks, as ranges, whose outcome is in none of these arrivals."""
    known = sorted(
        (arrived.outcome.first_task + at, arrived.outcome.first_task + end)
        for arrived in arrivals
        for at, end in _runs(arrived.new)
    )
    found = []
    expected = 0
    for start, end in known:
        if start > expected:
            found.append(range(expected, start))
        expected = end
    if tasks is not None and expected < tasks:
        found.append(range(expected, tasks))
    return found


def _runs(letters: str) -> "Iterator[tuple[int, int]]":
    """Where runs of final tasks begin and end."""
    at = _end_of_run(letters, 0, final=False)
    while at < len(letters):
        end = _end_of_run(letters, at, final=True)
        yield at, end
        at = _end_of_run(letters, end, final=False)
