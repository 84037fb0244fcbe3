"""A session as its user sees it who has an event loop. `Session` says what each method does."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from htcgrid._aio.deadline import Deadline
from htcgrid._core.intake import Intake
from htcgrid._core.source_thread import send_source
from htcgrid._follow.delivery import (
    Futures,
    hand_over,
)
from htcgrid._follow.pages import (
    chunk_pages,
    dead_letter_pages,
    tasks_by_state,
)
from htcgrid._follow.task_event import task_event
from htcgrid._submit.dead_letter_requests import (
    carry_out,
    purges,
    redrives,
)
from htcgrid._submit.encoding import check_chunk_size
from htcgrid._submit.tables import tasks_of
from htcgrid._view.progress_bar import progress_of
from htcgrid.errors import GridError, TaskNotFound
from htcgrid.options import JSON, OnExit, Order, as_seconds, check_order, task_number
from htcgrid.progress import Progress, html_of
from htcgrid.results import FinishedTask
from htcgrid.timeline import Timeline

if TYPE_CHECKING:
    from htcgrid._core.client import Client
    from htcgrid._core.session_link import SessionLink
    from htcgrid_events import ChunkRecord, DeadLetter, SessionStatus, TaskRecord


class AsyncSession:
    """A vector of tasks on the grid. Made by `AsyncGrid.submit`, `AsyncGrid.open_session` and `AsyncGrid.attach`.

    It has the methods of `Session`, with `async` and `await`; errors and arguments are the same. Use it on the event
    loop on which its grid was connected.
    """

    def __init__(self, client: "Client", link: "SessionLink", on_exit: OnExit) -> None:
        self._client = client
        self._api = client.api
        self._link = link
        self._on_exit: OnExit = on_exit
        self._feeding = asyncio.Lock()

    @property
    def id(self) -> str:
        """See `Session.id`."""
        return self._link.session_id

    @property
    def notifications(self) -> str:
        """See `Session.notifications`."""
        return self._link.follower.notifications

    async def add(self, tasks: Iterable[JSON], *, chunk_size: int | None = None) -> range:
        """See `Session.add`."""
        check_chunk_size(chunk_size)
        tasks = tasks_of(tasks)
        async with self._feeding:
            feed = self._link.open_feed()
            first = feed.encoder.tasks
            if isinstance(tasks, Sequence):
                await feed.send_all(feed.encoder.encode(tasks, chunk_size), feed.flush)
            else:
                await send_source(self._client, feed, tasks, chunk_size, Intake.flush)
            return range(first, feed.encoder.tasks)

    async def close(self) -> None:
        """See `Session.close`."""
        async with self._feeding:
            await self._link.close_feed()

    async def results(
        self,
        *,
        order: Order = "submitted",
        return_exceptions: bool = False,
        progress: bool = False,
        timeout: timedelta | float | None = None,
    ) -> list[Any]:
        """See `Session.results`."""
        found = self.iter_results(order=order, return_exceptions=return_exceptions, progress=progress, timeout=timeout)
        return [result async for result in found]

    async def iter_results(
        self,
        *,
        order: Order = "submitted",
        return_exceptions: bool = False,
        progress: bool = False,
        timeout: timedelta | float | None = None,
    ) -> AsyncIterator[Any]:
        """See `Session.iter_results`."""
        check_order(order)
        async for task in self._tasks(timeout, progress=progress, in_order=order == "submitted"):
            yield task.error if return_exceptions and task.error is not None else task.get()

    async def as_completed(
        self, timeout: timedelta | float | None = None, *, progress: bool = False
    ) -> AsyncIterator[FinishedTask]:
        """See `Session.as_completed`."""
        async for task in self._tasks(timeout, progress=progress, in_order=False):
            yield task

    async def futures(self) -> "list[asyncio.Future[Any]]":
        """See `Session.futures`. These are futures of `asyncio`."""
        loop = asyncio.get_running_loop()
        futures = {index: loop.create_future() for index in range(await self._link.size())}
        found = list(futures.values())
        await self._link.deliver(Futures(futures), hand_over)
        return found

    async def wait(self, timeout: timedelta | float | None = None, *, progress: bool = False) -> "SessionStatus":
        """See `Session.wait`."""
        deadline = Deadline(as_seconds(timeout))
        with progress_of(self._link.collector, shown=progress) as bar:
            while not await deadline.bound(self._link.changed()):
                bar.follow()
            bar.follow()
        await deadline.bound(self._link.called_back())
        return await self.status()

    async def status(self) -> "SessionStatus":
        """See `Session.status`."""
        return await self._link.status()

    async def progress(self, *, by_state: bool = False) -> Progress:
        """See `Session.progress`."""
        status = await self._link.status()
        return Progress.of(status, await tasks_by_state(self._api, self.id) if by_state else None)

    async def cancel(self) -> "SessionStatus":
        """See `Session.cancel`."""
        return await self._api.cancel(self.id)

    async def pause(self) -> "SessionStatus":
        """See `Session.pause`."""
        return await self._api.pause(self.id)

    async def resume(self) -> "SessionStatus":
        """See `Session.resume`."""
        return await self._api.resume(self.id)

    async def chunks(self) -> "AsyncIterator[ChunkRecord]":
        """See `Session.chunks`."""
        async for page in chunk_pages(self._api, self.id):
            for chunk in page:
                yield chunk

    async def dead_letters(self) -> "AsyncIterator[DeadLetter]":
        """See `Session.dead_letters`."""
        async for page in dead_letter_pages(self._api, self.id):
            for letter in page:
                yield letter

    async def redrive(
        self,
        *,
        fingerprint: str | None = None,
        tasks: Iterable[SupportsIndex] | None = None,
        events: Mapping[int, JSON] | None = None,
    ) -> int:
        """See `Session.redrive`."""
        requests = redrives(fingerprint, tasks, events)
        try:
            return await carry_out(requests, partial(self._api.redrive, self.id))
        finally:
            self._link.forget()

    async def purge(self, *, fingerprint: str | None = None, tasks: Iterable[SupportsIndex] | None = None) -> int:
        """See `Session.purge`."""
        return await carry_out(purges(fingerprint, tasks), partial(self._api.purge, self.id))

    async def task(self, index: SupportsIndex) -> "TaskRecord":
        """See `Session.task`."""
        return await self._api.task(self.id, self._number(index))

    async def event(self, index: SupportsIndex) -> Any:
        """See `Session.event`."""
        return await task_event(self._api, self.id, self._number(index))

    async def timeline(self) -> Timeline:
        """See `Session.timeline`."""
        return Timeline(self.id, await self._link.outcomes())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._on_exit == "cancel" or (self._on_exit == "cancel_on_error" and error is not None):
                if self._link.collector.state is None:
                    await self.cancel()
            else:
                await self.close()
        except GridError as fault:
            if error is None:
                raise
            error.add_note(f"session {self.id} goes on, since the grid could not be told to end it: {fault}")

    def __repr__(self) -> str:
        return f"<AsyncSession {self.id}{self._link.collector.summary}>"

    def _repr_html_(self) -> str:
        return html_of(self.id, None)

    async def _tasks(
        self, timeout: timedelta | float | None, *, progress: bool, in_order: bool
    ) -> AsyncIterator[FinishedTask]:
        reading = self._link.reading(as_seconds(timeout), in_order=in_order)
        try:
            with progress_of(self._link.collector, shown=progress) as bar:
                while parts := await reading.next():
                    for part in parts:
                        for task in part:
                            yield task
                        bar.add(part)
        finally:
            reading.stop()

    def _number(self, index: SupportsIndex) -> int:
        number = task_number(index)
        if number < 0:
            raise TaskNotFound(f"session {self.id} has no task {number}: the first one is task 0")
        return number
