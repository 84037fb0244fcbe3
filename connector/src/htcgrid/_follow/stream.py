"""Finished chunks of a session, each once, as they arrive, with large results fetched ahead."""

import asyncio
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from htcgrid.results import Arrival, Lost
from htcgrid_events import SessionState, StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from htcgrid._follow.collector import Collector
    from htcgrid._follow.fetcher import Fetcher
    from htcgrid._follow.follower import Follower
    from htcgrid._transport.api import Api
    from htcgrid_events import ChunkOutcome

_FETCHED_AHEAD = 8
"""Stored results on their way at a time: what bounds the memory they take."""

_PARTS_AT_A_TIME = 256


@dataclass(slots=True)
class _Slot:
    """The place of a part on its way to the reader."""

    part: "Arrival | Lost | None" = None
    """None until its results are here."""
    outcome: "ChunkOutcome | None" = None
    """What is fetched; none where nothing needs to be."""
    fetching: "asyncio.Task[Arrival] | None" = None


class ResultStream:
    """One reader's way through a session's results. Readers do not disturb one another."""

    def __init__(
        self, api: "Api", collector: "Collector", follower: "Follower", fetcher: "Fetcher", *, in_order: bool
    ) -> None:
        """`in_order` gives chunks in the order of their tasks, else as they arrive."""
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
    """Chunks as they arrive, and at the end the tasks whose chunks never will."""

    def __init__(self, collector: "Collector") -> None:
        self._collector = collector
        self._position = 0
        self._gaps: Iterator[Lost] | None = None

    def next(self) -> _Slot | None:
        collector = self._collector
        if self._position < len(collector.arrived):
            self._position += 1
            return _slot(collector, self._position - 1)
        state = collector.state
        if state is None or not (collector.complete or collector.given_up):
            return None
        if self._gaps is None:
            outcomes = sorted(collector.arrived, key=lambda outcome: outcome.first_task)
            self._gaps = iter([Lost(gap, state) for gap in _gaps(outcomes, collector.tasks)])
        lost = next(self._gaps, None)
        return None if lost is None else _Slot(lost)


class _Ordered:
    """Chunks in the order of their tasks. Those that are not due yet wait where they lie."""

    def __init__(self, collector: "Collector") -> None:
        self._collector = collector
        self._position = 0
        self._expected = 0
        self._waiting: list[tuple[int, int]] = []
        """First task and position of each arrival that is not due: a heap."""

    def next(self) -> _Slot | None:
        collector = self._collector
        for position in range(self._position, len(collector.arrived)):
            heappush(self._waiting, (collector.arrived[position].first_task, position))
        self._position = len(collector.arrived)
        first = self._waiting[0][0] if self._waiting else collector.tasks
        state = collector.state
        if state is not None and collector.given_up and first is not None and first > self._expected:
            lost = range(self._expected, first)
            self._expected = first
            return _Slot(Lost(lost, state))
        if not self._waiting or first != self._expected:
            return None
        _, position = heappop(self._waiting)
        self._expected += collector.arrived[position].size
        return _slot(collector, position)


def _slot(collector: "Collector", position: int) -> _Slot:
    outcome = collector.arrived[position]
    if outcome.results is None and outcome.stored_bytes is not None:
        return _Slot(outcome=outcome)
    collector.was_read(position)
    return _Slot(Arrival(outcome, outcome.results))


def _gaps(outcomes: "Sequence[ChunkOutcome]", tasks: int | None) -> list[range]:
    """The tasks, as ranges, that lie between these chunks, which are in order, and behind them."""
    found = []
    expected = 0
    for outcome in outcomes:
        if outcome.first_task > expected:
            found.append(range(expected, outcome.first_task))
        expected = outcome.first_task + outcome.size
    if tasks is not None and expected < tasks:
        found.append(range(expected, tasks))
    return found
