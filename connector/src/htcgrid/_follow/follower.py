"""Waiting for a session: by push, and by polling where pushes fail or may have been lost."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from htcgrid._aio.task_group import together
from htcgrid._follow.collector import Collector
from htcgrid._notify.channel import Channel
from htcgrid._transport.api import Api
from htcgrid.errors import GridClosed
from htcgrid_events import SessionStatus

_PAGES_AT_A_TIME = 8

_GIVE_UP_AFTER = 6
"""Polls after the verdict, some 20 s in all, before chunks that are still missing count as lost."""


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """How often the grid is polled."""

    poll: timedelta = timedelta(milliseconds=200)
    """First wait between two questions while nothing is pushed. Default: 0.2 s."""
    longest_poll: timedelta = timedelta(seconds=5)
    """Longest such wait; each is half as long again as the one before. Default: 5 s."""
    silence: timedelta = timedelta(seconds=20)
    """How long an open push connection may say nothing of an open session before the grid is asked. Default: 20 s."""
    longest_silence: timedelta = timedelta(minutes=3)
    """The same after repeated silence; each wait is twice the one before. Default: 3 minutes."""
    stragglers: timedelta = timedelta(milliseconds=300)
    """How long after one end of a session is known (all of its results, or its verdict) the other is waited for
    before the grid is asked; each wait is twice the one before. Default: 0.3 s."""


class Follower:
    """Brings one session's collector up to date whenever somebody waits for it, and does nothing meanwhile."""

    def __init__(
        self,
        api: Api,
        channel: Channel,
        collector: Collector,
        *,
        schedule: PollSchedule | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._channel = channel
        self._collector = collector
        self._schedule = schedule or PollSchedule()
        self._clock = clock
        self._lock = asyncio.Lock()
        self._subscribed = False
        self._epoch = -1
        self._asked = 0
        self._since = float("-inf")
        self._seen: object = None

    def created(self, *, subscribed: bool, epoch: int) -> None:
        """The session was just created, perhaps with the subscription, when the push channel was in this epoch."""
        self._subscribed = subscribed
        self._epoch = epoch
        self._since = self._clock()

    @property
    def notifications(self) -> str:
        """How finished tasks become known now."""
        return self._channel.name if self._connected else "poll"

    @property
    def _connected(self) -> bool:
        return self._channel.connected and self._channel.reaches(self._collector.session_id)

    @property
    def _behind(self) -> bool:
        """Whether frames come, but may have been missed."""
        return self._connected and (not self._subscribed or self._epoch != self._channel.epoch)

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until the condition on the collector is met. Raises what `Api` raises."""
        while not met():
            if self._channel.closed:
                raise GridClosed
            if self._collector.state is None:  # else there is nothing to be told of any more
                self._channel.start()
                await self._channel.tried()
            self._notice_changes()
            try:
                async with asyncio.timeout(max(0.0, self._due() - self._clock())):
                    if not met():
                        await self._collector.changed()
            except TimeoutError:
                await self._catch_up_once()

    async def refresh(self) -> None:
        """Ask the grid now, whatever was pushed."""
        async with self._lock:
            await self._catch_up()

    def _notice_changes(self) -> None:
        """Restart the wait for the next poll when something was pushed or the connection came or went."""
        collector, connected = self._collector, self._connected
        seen = (connected, len(collector.arrived), collector.state) if connected else connected
        if self._seen is not None and seen != self._seen:
            self._asked = 0
            self._since = self._clock()
        self._seen = seen

    def _due(self) -> float:
        """When to poll the grid next."""
        if self._behind and self._collector.state is None:
            return float("-inf")
        schedule, collector = self._schedule, self._collector
        times = min(self._asked, 16)
        if collector.complete or collector.state is not None:
            wait = schedule.stragglers * 2.0**times
        elif self._connected:
            wait = schedule.silence * 2.0**times
        else:
            wait = schedule.poll * 1.5**times
        longest = schedule.longest_silence if self._connected else schedule.longest_poll
        return self._since + min(wait, longest).total_seconds()

    async def _catch_up_once(self) -> None:
        """Catch up, unless another waiter has done so while this one waited for its turn."""
        async with self._lock:
            if self._due() <= self._clock():
                await self._catch_up()

    async def _catch_up(self) -> None:
        api, collector = self._api, self._collector
        epoch = self._channel.epoch
        if self._connected and not self._subscribed and collector.state is None:
            status = await self._channel.subscribe(collector.session_id)
            self._subscribed = True
        else:
            status = await api.status(collector.session_id)
        if status.account.finished > collector.counted_tasks or status.state.ended:
            slots = asyncio.Semaphore(_PAGES_AT_A_TIME)
            await together(self._read(bucket, after, slots) for bucket, after in collector.missing(status.chunks))
        # Only now: whoever hears of the verdict shall find the results.
        collector.see(status)
        self._epoch = epoch
        self._asked += 1
        self._since = self._clock()
        self._settle(status)

    async def _read(self, bucket: int, after: int | None, slots: asyncio.Semaphore) -> None:
        more = True
        while more:
            async with slots:
                page = await self._api.outcomes(self._collector.session_id, bucket, after)
            self._collector.take((*page.outcomes, *page.partial))
            after = page.next_after
            more = after is not None

    def _settle(self, status: SessionStatus) -> None:
        """Decide, after the verdict, that the chunks still missing will never come."""
        collector = self._collector
        if not status.state.ended or collector.complete:
            return
        never_run = status.account.submitted - collector.counted_tasks
        explained = never_run + collector.cancelled_tasks == status.account.cancelled
        if explained or self._asked > _GIVE_UP_AFTER:
            collector.give_up()
