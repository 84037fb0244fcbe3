"""One pass over a session's results, within a time limit."""

from typing import TYPE_CHECKING

from htcgrid._aio.deadline import Deadline
from htcgrid.results import Arrival, Ending, Lost, Part

if TYPE_CHECKING:
    from htcgrid._follow.stream import ResultStream


class Reading:
    """Gives the parts of a session to one reader. The time limit begins when it is made."""

    def __init__(self, session_id: str, stream: "ResultStream", seconds: float | None = None) -> None:
        self._session_id = session_id
        self._stream = stream
        self._deadline = Deadline(seconds)

    async def next(self) -> list[Part]:
        """What has arrived since the last call, after waiting for something; empty at the end of the session.

        Raises:
            WaitTimeout: the time limit passed.
        """
        return await self._deadline.bound(self._next())

    def stop(self) -> None:
        """Stop what is being fetched."""
        self._stream.stop()

    async def _next(self) -> list[Part]:
        found = await self._stream.next_parts()
        ending = None
        if any(map(_needs, found)):
            ending = Ending(*await self._stream.why_cancelled())
        return [Part(self._session_id, part, ending if _needs(part) else None) for part in found]


def _needs(part: Arrival | Lost) -> bool:
    return isinstance(part, Lost) or "X" in part.outcome.outcomes
