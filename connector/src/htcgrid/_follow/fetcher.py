"""Results that did not come with their outcome."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from htcgrid.errors import ResultsUnavailable
from htcgrid.results import Arrival
from htcgrid_events import BUCKET_SIZE, OutcomeCode, bucket_of

if TYPE_CHECKING:
    from htcgrid._transport.api import Api
    from htcgrid_events import PartialOutcome

_OPEN = OutcomeCode.OPEN.value


class Fetcher:
    """Gets results that did not come with their outcome: from the data plane by a link, or through the API."""

    def __init__(self, api: "Api", session_id: str) -> None:
        self._api = api
        self._session_id = session_id
        self._lock = asyncio.Lock()
        self._fresh: dict[int, PartialOutcome] = {}

    async def fetch(self, outcome: "PartialOutcome") -> Arrival:
        """The chunk's results, or why they are not to be had. Raises what `Api` raises otherwise."""
        if outcome.url is not None:
            with suppress(ResultsUnavailable):  # links last a short while only: ask for a fresh one
                return Arrival(outcome, await self._api.payloads.get(outcome.url, outcome.stored_bytes))
        fresh = await self._ask(outcome)
        try:
            if fresh is not None and fresh.url is not None:
                return Arrival(outcome, await self._api.payloads.get(fresh.url, fresh.stored_bytes))
        except ResultsUnavailable as error:
            return Arrival(outcome, error)
        if fresh is None or fresh.results is None:
            lost = f"the grid no longer keeps the results of chunk {outcome.chunk} of session {self._session_id}"
            return Arrival(outcome, ResultsUnavailable(lost))
        return Arrival(outcome, fresh.results)

    async def _ask(self, outcome: "PartialOutcome") -> "PartialOutcome | None":
        chunk = outcome.chunk
        async with self._lock:  # one page usually serves those who wait behind
            if not _holds(self._fresh.get(chunk), outcome):
                after = chunk - 1 if chunk % BUCKET_SIZE else None
                page = await self._api.outcomes(self._session_id, bucket_of(chunk), after)
                self._fresh = {item.chunk: item for item in (*page.outcomes, *page.partial)}
            fresh = self._fresh.pop(chunk, None)
            return fresh if _holds(fresh, outcome) else None


def _holds(fresh: "PartialOutcome | None", outcome: "PartialOutcome") -> bool:
    """Whether every task that is final in an outcome is so in a fresh one, which may be of an earlier moment."""
    if fresh is None:
        return False
    letters = zip(fresh.outcomes, outcome.outcomes, strict=True)
    return all(letter != _OPEN or wanted == _OPEN for letter, wanted in letters)
