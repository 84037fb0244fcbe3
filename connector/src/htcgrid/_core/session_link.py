"""One session as a client sees it."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid._follow.collector import Collector
from htcgrid._follow.delivery import (
    Callback,
    deliver,
)
from htcgrid._follow.fetcher import Fetcher
from htcgrid._follow.follower import Follower
from htcgrid._follow.reading import Reading
from htcgrid._follow.stream import ResultStream
from htcgrid._submit.feed import Feed
from htcgrid.errors import GridClosed, SessionClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from htcgrid._follow.delivery import (
        Hand,
        Sink,
    )
    from htcgrid._notify.channel import Channel
    from htcgrid._transport.api import Api
    from htcgrid.results import FinishedTask
    from htcgrid_events import PartialOutcome, SessionStatus


VERDICT_WAIT = timedelta(seconds=5)
"""How long the status of a session whose results are all here waits for the verdict, which usually takes a second."""


class SessionLink:
    """One session as this client sees it."""

    def __init__(
        self, session_id: str, api: "Api", channel: "Channel", keep: "Callable[[asyncio.Task[None]], None]"
    ) -> None:
        """`keep` holds a background task until it is done."""
        self.session_id = session_id
        self._api = api
        self._channel = channel
        self._keep = keep
        self.feed: Feed | None = None
        """The way into the session, if this program has opened it."""
        self._callbacks: set[asyncio.Task[None]] = set()
        self.forget()

    def forget(self) -> None:
        """Know nothing of the session, as at the beginning: after tasks were run again, what was known is outdated."""
        self.collector = Collector(self.session_id)
        self.follower = Follower(self._api, self._channel, self.collector)
        self._fetcher = Fetcher(self._api, self.session_id)

    def reading(self, seconds: float | None = None, *, in_order: bool = False) -> Reading:
        """A new reader of the results, which gives up after so many seconds."""
        stream = ResultStream(self._api, self.collector, self.follower, self._fetcher, in_order=in_order)
        return Reading(self.session_id, stream, seconds)

    def open_feed(self) -> Feed:
        """The way into the session. Raises `SessionClosed` when it takes no tasks, or none from here."""
        if self.feed is None:
            what = f"session {self.session_id} takes no tasks here: add them in the program that opened it"
            raise SessionClosed(what)
        self.feed.check_open()
        return self.feed

    async def close_feed(self) -> None:
        """Close the session, if it is open here."""
        if self.feed is None or not self.feed.open:
            return
        try:
            await self.feed.close()
        except BaseException as error:
            await self.feed.abandon(error)
            raise

    async def abandon(self, error: BaseException) -> None:
        """Leave nothing running of a session that its only reader gives up, and tell in the error what was done."""
        if self.feed is not None and (self.feed.open or self.collector.state is None):
            await self.feed.abandon(error, repeatable=False)

    async def size(self) -> int:
        """How many tasks the session has, as far as that is known."""
        if self.feed is not None and self.feed.open:
            return self.feed.encoder.tasks
        if self.collector.tasks is None:
            return (await self.status()).account.submitted
        return self.collector.tasks

    async def deliver(self, sink: "Sink", hand: "Hand") -> "asyncio.Task[None]":
        """Tell a sink of every task, in the background."""
        delivery = asyncio.create_task(self._deliver(sink, hand), name="htcgrid delivery")
        # Not within the coroutine, which may be cancelled before it begins.
        delivery.add_done_callback(lambda done: sink.fail(GridClosed()) if done.cancelled() else None)
        self._keep(delivery)
        return delivery

    async def _deliver(self, sink: "Sink", hand: "Hand") -> None:
        # Pausing this link, without which nothing more would be heard of the session.
        await deliver(self.reading(), sink, hand)

    async def call_back(self, function: "Callable[[FinishedTask], object]", hand: "Hand") -> None:
        """Call a user's function with every task."""
        delivery = await self.deliver(Callback(self.session_id, function), hand)
        self._callbacks.add(delivery)
        delivery.add_done_callback(self._callbacks.discard)

    async def called_back(self) -> None:
        """Wait until the users' functions have been called with every task."""
        if self._callbacks:
            await asyncio.wait(list(self._callbacks))

    async def changed(self) -> bool:
        """Wait until more is known of the session. Whether it has its verdict."""
        collector, finished = self.collector, self.collector.finished_tasks
        await self.follower.until(lambda: collector.state is not None or collector.finished_tasks != finished)
        return collector.state is not None

    async def outcomes(self) -> "list[PartialOutcome]":
        """The chunks that have finished by now, in the order of their tasks."""
        if not self.collector.complete:
            await self.follower.refresh()
        finished = [arrived.outcome for arrived in self.collector.arrived if arrived.finished]
        return sorted(finished, key=lambda outcome: outcome.first_task)

    async def status(self) -> "SessionStatus":
        """How the session stands, asked now. Where all results are here, the verdict that follows them is waited for,
        so that no caller has all results of a session that is still said to run."""
        collector = self.collector
        status = await self._api.status(self.session_id)
        collector.see(status)
        if collector.complete and not status.state.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(VERDICT_WAIT.total_seconds()):
                    await self.follower.until(lambda: collector.state is not None)
            status = await self._api.status(self.session_id)
            collector.see(status)
        return status
