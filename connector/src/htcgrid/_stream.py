"""Finished chunks of a session, each once, as they arrive, with large results fetched ahead."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from htcgrid.errors import GridError, ResultsUnavailable
from htcgrid.results import Arrival, Lost
from htcgrid_events import BUCKET_SIZE, SessionState, StopReason, bucket_of

if TYPE_CHECKING:
    from htcgrid._api import Api
    from htcgrid._collector import Collector
    from htcgrid._follower import Follower
    from htcgrid_events import ChunkOutcome

_FETCHED_AHEAD = 8
"""Stored results on their way at a time: what bounds the memory they take."""

_PARTS_AT_A_TIME = 256


class Fetcher:
    """Gets results that did not come with their outcome: from the data plane by a link, or through the API."""

    def __init__(self, api: "Api", session_id: str) -> None:
        self._api = api
        self._session_id = session_id
        self._lock = asyncio.Lock()
        self._fresh: dict[int, ChunkOutcome] = {}

    async def fetch(self, outcome: "ChunkOutcome") -> Arrival:
        """The chunk's results, or why they are not to be had. Raises what `Api` raises otherwise."""
        if outcome.url is not None:
            with suppress(ResultsUnavailable):  # links last a short while only: ask for a fresh one
                return Arrival(outcome, await self._api.get_payload(outcome.url))
        fresh = await self._ask(outcome.chunk)
        try:
            if fresh is not None and fresh.url is not None:
                return Arrival(outcome, await self._api.get_payload(fresh.url))
        except ResultsUnavailable as error:
            return Arrival(outcome, error)
        if fresh is None or fresh.results is None:
            lost = f"the grid no longer keeps the results of chunk {outcome.chunk} of session {self._session_id}"
            return Arrival(outcome, ResultsUnavailable(lost))
        return Arrival(outcome, fresh.results)

    async def _ask(self, chunk: int) -> "ChunkOutcome | None":
        async with self._lock:  # one page usually serves those who wait behind
            if chunk not in self._fresh:
                after = chunk - 1 if chunk % BUCKET_SIZE else None
                page = await self._api.outcomes(self._session_id, bucket_of(chunk), after)
                self._fresh = {item.chunk: item for item in page.outcomes}
            return self._fresh.pop(chunk, None)


class ResultStream:
    """One reader's way through a session's results. Readers do not disturb one another."""

    def __init__(self, api: "Api", collector: "Collector", follower: "Follower", fetcher: Fetcher) -> None:
        self._api = api
        self._collector = collector
        self._follower = follower
        self._fetcher = fetcher
        self._position = 0
        self._fetching: dict[asyncio.Task[Arrival], ChunkOutcome] = {}
        self._again: list[ChunkOutcome] = []
        self._ready: list[Arrival] = []
        self._ended = False

    async def next_parts(self) -> list[Arrival | Lost]:
        """What has arrived since the last call, after waiting for something; empty at the end of the session.

        Raises what `Api` raises; the call may then be repeated.
        """
        if self._ended:
            return []
        await self._follower.until(self._advance)
        parts: list[Arrival | Lost] = list(self._ready)
        self._ready.clear()
        if not parts:
            self._ended = True
            state = self._collector.state
            if state is not None:
                parts.extend(Lost(gap, state) for gap in self._collector.gaps())
        return parts

    async def why_cancelled(self) -> SessionState:
        """The verdict that cancelled tasks fell under, also while it is still to come."""
        if self._collector.state is not None:
            return self._collector.state
        status = await self._api.status(self._collector.session_id)
        if status.state.ended:
            return status.state
        return SessionState.CANCELLED if status.stop_reason is StopReason.CANCELLED else SessionState.TIMED_OUT

    def stop(self) -> None:
        """Stop what is being fetched."""
        for task in self._fetching:
            task.cancel()
        self._fetching.clear()

    def _advance(self) -> bool:
        """Take what has arrived, start fetching what lies elsewhere. Whether the reader has something to do."""
        for task in [task for task in self._fetching if task.done()]:
            self._fetched(task)
        while len(self._ready) < _PARTS_AT_A_TIME and (outcome := self._next()) is not None:
            if outcome.results is not None or outcome.stored_bytes is None:
                self._ready.append(Arrival(outcome, outcome.results))
            elif len(self._fetching) < _FETCHED_AHEAD:
                self._fetch(outcome)
            else:
                self._again.append(outcome)
                break
        done = not self._fetching and not self._again and self._position == len(self._collector.arrived)
        return bool(self._ready) or (done and (self._collector.complete or self._collector.given_up))

    def _next(self) -> "ChunkOutcome | None":
        if self._again:
            return self._again.pop()
        if self._position == len(self._collector.arrived):
            return None
        self._position += 1
        return self._collector.arrived[self._position - 1]

    def _fetch(self, outcome: "ChunkOutcome") -> None:
        task = asyncio.create_task(self._fetcher.fetch(outcome))
        self._fetching[task] = outcome
        task.add_done_callback(lambda _task: self._collector.wake())

    def _fetched(self, task: asyncio.Task[Arrival]) -> None:
        outcome = self._fetching.pop(task)
        try:
            self._ready.append(task.result())
        except GridError:
            self._again.append(outcome)  # so that the caller may try again
            raise
