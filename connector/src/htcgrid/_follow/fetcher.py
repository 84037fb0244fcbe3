"""Results that did not come with their outcome."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from htcgrid.errors import ResultsUnavailable
from htcgrid.results import Arrival
from htcgrid_events import BUCKET_SIZE, bucket_of

if TYPE_CHECKING:
    from htcgrid._transport.api import Api
    from htcgrid_events import ChunkOutcome


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
                return Arrival(outcome, await self._api.get_payload(outcome.url, outcome.stored_bytes))
        fresh = await self._ask(outcome.chunk)
        try:
            if fresh is not None and fresh.url is not None:
                return Arrival(outcome, await self._api.get_payload(fresh.url, fresh.stored_bytes))
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
