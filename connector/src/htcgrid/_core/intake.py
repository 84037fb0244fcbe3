"""Sending the tasks of a source while it is still being read, however slow it is."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from htcgrid._submit.json_line import json_line
from htcgrid._submit.packing import BATCH_AGE
from htcgrid.errors import GridError

if TYPE_CHECKING:
    from htcgrid._core.connection import Connection
    from htcgrid._submit.feed import Feed
    from htcgrid._submit.packing import EncodedChunk, Packer
    from htcgrid.options import JSON

_T = TypeVar("_T")


class Intake:
    """The way of tasks from a source that is read in one thread to the feed on the event loop.

    Full batches are sent by the thread that reads. It may wait for its source at any time, so what was read is sent by
    the event loop once it has waited for `BATCH_AGE`.
    """

    def __init__(self, connection: "Connection", feed: "Feed") -> None:
        self.started = asyncio.Event()
        """Set on the event loop once the grid knows the session."""
        self.failed = asyncio.Event()
        """Set on the event loop when tasks could not be sent."""
        self._connection = connection
        self._feed = feed
        self._packer: Packer | None = None
        self._packing = threading.Lock()
        self._sending = asyncio.Lock()
        self._held_since: float | None = None
        self._watched = False
        self._over = False
        self._fault: GridError | None = None

    @property
    def fault(self) -> GridError | None:
        """Why tasks could not be sent, if they could not."""
        return self._fault

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
            self._connection.run(self._send(batch))

    def begin(self, tasks: "Iterable[JSON]", chunk_size: int | None, largest: int | None = None) -> None:
        """Pack the tasks of this source, which are then `put` one by one."""
        self._packer = self._feed.encoder.packer(tasks, chunk_size, largest)

    def put(self, line: bytes) -> None:
        """Take an encoded task. Waits where the grid takes tasks more slowly than the source gives them."""
        if self._fault is not None:
            raise self._fault
        assert self._packer is not None, "begin() comes first"  # noqa: S101 - told to mypy
        with self._packing:
            batches = self._packer.add(line)
        for batch in batches:
            self._connection.run(self._send(batch))
        if not self._watched:
            self._watched = True
            self._connection.post(self._watch)

    def push(self, *, last: bool) -> None:
        """Send what is here now and, unless it is the last, wait until the grid has acknowledged it."""
        self._connection.run(self._push(last=last))

    def close(self) -> None:
        """Send what is left with the totals, which close the session. Raises as `Feed.close` does."""
        self._connection.run(self._alone(self._feed.close()))
        self._connection.post(self.started.set)

    def flush(self) -> None:
        """Send what is left and wait until the grid has acknowledged it."""
        self._connection.run(self._alone(self._feed.flush()))

    def abandon(self, leaving: Coroutine[Any, Any, None]) -> None:
        """Leave the session when nothing is being sent any more, and send nothing afterwards."""
        self._over = True
        self._connection.run(self._alone(leaving))

    # --- on the event loop ---

    async def _alone(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            await self._sending.acquire()
        except BaseException:
            work.close()
            raise
        try:
            self._held_since = None
            return await work
        finally:
            self._sending.release()

    async def _send(self, batch: "Sequence[EncodedChunk]") -> None:
        async with self._sending:
            await self._give(batch)
            self._held_since = time.monotonic()
            if self._packer is not None:
                with self._packing:
                    self._packer.rejuvenate()

    async def _push(self, *, last: bool) -> None:
        async with self._sending:
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
        self._connection.client.keep(task)

    async def _send_what_waits(self) -> None:
        """Send what has waited for too long, until nothing waits."""
        try:
            while not self._over and (age := self._age()) is not None:
                await asyncio.sleep(max(0.0, BATCH_AGE.total_seconds() - age))
                async with self._sending:  # while a full batch is being sent, it is not the source that is slow
                    if (self._age() or 0.0) >= BATCH_AGE.total_seconds():
                        await self._give_all(last=False)
        except GridError as error:
            self._fault = error
            self.failed.set()
        finally:
            self._watched = False

    def _age(self) -> float | None:
        """For how long the oldest task waits that was not sent."""
        with self._packing:
            packed = None if self._packer is None else self._packer.age
        held = None if self._held_since is None or not self._feed.holds_back else time.monotonic() - self._held_since
        ages = [age for age in (packed, held) if age is not None]
        return max(ages, default=None)
