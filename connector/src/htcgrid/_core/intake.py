"""Sending the tasks of a source while it is still being read, however slow it is."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from htcgrid._submit.json_line import json_line
from htcgrid._submit.packing import BATCH_AGE
from htcgrid.errors import GridClosed, GridError

if TYPE_CHECKING:
    from htcgrid._core.client_loop import ClientLoop
    from htcgrid._submit.feed import Feed
    from htcgrid._submit.packing import EncodedChunk, Packer
    from htcgrid.options import JSON

_T = TypeVar("_T")


class Intake:
    """The way of tasks from a source that is read in one thread to the feed on the event loop.

    Full batches are sent by the thread that reads. It may wait for its source at any time, so what was read is sent by
    the event loop once it has waited for `BATCH_AGE`.
    """

    def __init__(self, loop: "ClientLoop", feed: "Feed") -> None:
        self.started = asyncio.Event()
        """Set on the event loop once the grid knows the session."""
        self._loop = loop
        self._feed = feed
        self._packer: Packer | None = None
        self._packing = threading.Lock()
        self._sending = asyncio.Lock()
        self._senders: set[asyncio.Task[Any]] = set()
        """Those that send, or wait for it."""
        self._held_since: float | None = None
        self._watched = False
        self._over = False
        self._fault: BaseException | None = None
        self._failed = asyncio.Event()

    def send_all(self, tasks: "Iterable[JSON]", chunk_size: int | None) -> None:
        """Send tasks as they are read, in the caller's thread.

        Raises what the source raises, `InvalidTask` for a task that is none, and what `Api` raises.
        """
        self.begin(tasks, chunk_size)
        for index, task in enumerate(tasks, self._feed.encoder.tasks):
            self.put(json_line(index, task))
        self.push(last=True)

    def send_batches(self, batches: "Iterable[Sequence[EncodedChunk]]") -> None:
        """Send tasks that were encoded before."""
        for batch in batches:
            self._loop.run(self._send(batch))

    def begin(self, tasks: "Iterable[JSON]", chunk_size: int | None, largest: int | None = None) -> None:
        """Pack the tasks of this source, which are then `put` one by one."""
        self._packer = self._feed.encoder.packer(tasks, chunk_size, largest)

    def put(self, line: bytes) -> None:
        """Take an encoded task. Waits where the grid takes tasks more slowly than the source gives them."""
        if self._fault is not None:
            raise self._fault
        if self._over:
            raise GridClosed
        assert self._packer is not None, "begin() comes first"  # noqa: S101 - told to mypy
        with self._packing:
            batches = self._packer.add(line)
        for batch in batches:
            self._loop.run(self._send(batch))
        if not self._watched:
            self._watched = True
            self._loop.post(self._watch)

    def push(self, *, last: bool) -> None:
        """Send what is here now and, unless it is the last, wait until the grid has acknowledged it."""
        self._loop.run(self._push(last=last))

    def close(self) -> None:
        """Send what is left with the totals, which close the session. Raises as `Feed.close` does."""
        self._loop.run(self._finish(self._feed.close))
        self._loop.post(self.started.set)

    def flush(self) -> None:
        """Send what is left and wait until the grid has acknowledged it."""
        self._loop.run(self._finish(self._feed.flush))

    # --- on the event loop ---

    async def unless_failed(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of `work`. It is cancelled when tasks cannot be read or sent, and why is raised.

        Raises:
            GridClosed: the grid was closed meanwhile.
        """
        failure = asyncio.create_task(self._failed.wait())
        wanted = asyncio.create_task(work)
        self._loop.client.keep(failure)
        try:
            await asyncio.wait({failure, wanted}, return_when=asyncio.FIRST_COMPLETED)
            if self._fault is not None:
                raise self._fault
            if failure.cancelled() and not wanted.done():
                raise GridClosed
            return await wanted
        finally:
            failure.cancel()
            wanted.cancel()

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits why tasks cannot be read or sent."""
        self._fault = self._fault or error
        self._failed.set()

    async def abandon(self, error: BaseException, leave: Callable[[BaseException], Awaitable[None]]) -> None:
        """Leave the session for this reason when nothing is being sent any more, and send nothing afterwards."""
        self._over = True
        if not isinstance(error, Exception):  # who is interrupted does not wait for the grid's answers
            for sender in self._senders:
                sender.cancel()
        async with self._sending:
            await leave(error)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        sender = asyncio.current_task()
        assert sender is not None, "runs on the event loop"  # noqa: S101 - told to mypy
        self._senders.add(sender)
        try:
            async with self._sending:
                yield
        finally:
            self._senders.discard(sender)

    async def _finish(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._alone():
            if self._over:
                raise GridClosed
            self._held_since = None
            await work()

    async def _send(self, batch: "Sequence[EncodedChunk]") -> None:
        async with self._alone():
            await self._give(batch)
            self._held_since = time.monotonic()
            if self._packer is not None:
                with self._packing:
                    self._packer.rejuvenate()

    async def _push(self, *, last: bool) -> None:
        async with self._alone():
            await self._give_all(last=last)

    async def _give_all(self, *, last: bool) -> None:
        batches: list[list[EncodedChunk]] = []
        if self._packer is not None:
            with self._packing:
                batches = self._packer.take(last=last)
        for batch in batches:
            await self._give(batch)
        if not last and not self._over:
            await self._feed.flush()  # and not only sent, since a failure must be noticed while the source is silent
            self._held_since = None
            if self._feed.created:
                self.started.set()

    async def _give(self, batch: "Sequence[EncodedChunk]") -> None:
        if self._over:
            return
        await self._feed.send(batch)
        if self._feed.created:
            self.started.set()

    def _watch(self) -> None:
        task = asyncio.create_task(self._send_what_waits(), name="htcgrid intake")
        self._loop.client.keep(task)

    async def _send_what_waits(self) -> None:
        """Send what has waited for too long, until nothing waits."""
        try:
            while not self._over and (age := self._age()) is not None:
                await asyncio.sleep(max(0.0, BATCH_AGE.total_seconds() - age))
                async with self._alone():  # while a full batch is being sent, it is not the source that is slow
                    if (self._age() or 0.0) >= BATCH_AGE.total_seconds():
                        await self._give_all(last=False)
        except GridError as error:
            self.fail(error)
        finally:
            self._watched = False

    def _age(self) -> float | None:
        """For how long the oldest task waits that was not sent."""
        with self._packing:
            packed = None if self._packer is None else self._packer.age
        held = None if self._held_since is None or not self._feed.holds_back else time.monotonic() - self._held_since
        ages = [age for age in (packed, held) if age is not None]
        return max(ages, default=None)
