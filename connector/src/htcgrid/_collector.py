"""What is known here of one session: its finished chunks, each once, and its verdict."""

import asyncio
from collections.abc import Iterable

from htcgrid_events import (
    BUCKET_SIZE,
    Account,
    ChunkOutcome,
    OutcomeCode,
    SessionEndedFrame,
    SessionState,
    SessionStatus,
)


class Collector:
    """Gathers what is told of a session from any side, in any order, any number of times."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.arrived: list[ChunkOutcome] = []
        """Finished chunks in the order in which they became known."""
        self.finished_tasks = 0
        self.cancelled_tasks = 0
        self.chunks: int | None = None
        """How many chunks the session holds; none while it may grow."""
        self.tasks: int | None = None
        """How many tasks the session holds; none while it may grow."""
        self.state: SessionState | None = None
        """The verdict."""
        self.account: Account | None = None
        """The account of the verdict."""
        self.given_up = False
        """Whether the chunks that are missing will never come."""
        self._numbers: set[int] = set()
        self._changed = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether every chunk of the whole session is here."""
        return self.chunks is not None and len(self.arrived) >= self.chunks

    def take(self, outcomes: Iterable[ChunkOutcome]) -> bool:
        """Add finished chunks; those that are known change nothing. Whether any was new."""
        new = [outcome for outcome in outcomes if outcome.chunk not in self._numbers]
        for outcome in new:
            self._numbers.add(outcome.chunk)
            self.arrived.append(outcome)
            self.finished_tasks += outcome.size
            self.cancelled_tasks += outcome.count(OutcomeCode.CANCELLED)
        if new:
            self.wake()
        return bool(new)

    def close(self, *, chunks: int, tasks: int) -> None:
        """The session holds so much and will not grow."""
        self.chunks, self.tasks = chunks, tasks
        self.wake()

    def end(self, frame: SessionEndedFrame) -> None:
        """The verdict was pushed."""
        self.state, self.account = frame.state, frame.account
        self.tasks = frame.account.submitted
        self.wake()

    def see(self, status: SessionStatus) -> None:
        """The grid was asked how the session stands."""
        if status.state is not SessionState.OPEN:
            self.chunks, self.tasks = status.chunks, status.account.submitted
        if status.state.ended:
            self.state, self.account = status.state, status.account
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

    def gaps(self) -> list[range]:
        """The tasks of the whole session, as ranges, whose chunks are missing."""
        found = []
        expected = 0
        for outcome in sorted(self.arrived, key=lambda outcome: outcome.first_task):
            if outcome.first_task > expected:
                found.append(range(expected, outcome.first_task))
            expected = outcome.first_task + outcome.size
        if self.tasks is not None and expected < self.tasks:
            found.append(range(expected, self.tasks))
        return found

    def wake(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()
