"""A grid as its user sees it who has an event loop. `Grid` says what each method does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from htcgrid._core.client import Client
from htcgrid._core.client_loop import UserLoop
from htcgrid._core.intake import Intake
from htcgrid._core.lookahead import Lookahead
from htcgrid._core.source_thread import send_source
from htcgrid._data.download import Downloads
from htcgrid._data.source import opened
from htcgrid._data.upload import upload
from htcgrid._follow.delivery import hand_over
from htcgrid._follow.pages import data_pages, session_pages
from htcgrid._submit.encoding import Encoder, check_chunk_size
from htcgrid._submit.repetition import known_chunks
from htcgrid._submit.tables import tasks_of
from htcgrid.async_session import AsyncSession
from htcgrid.options import (
    JSON,
    Notifications,
    OnExit,
    SubmitOptions,
    as_moment,
    as_seconds,
    check_notifications,
    check_on_exit,
    session_id_of,
    session_id_or_none,
    session_ids_of,
    session_options,
    session_state,
)
from htcgrid.profile import Profile
from htcgrid.shared_data import SharedData

if TYPE_CHECKING:
    from htcgrid._data.upload import Progress
    from htcgrid.results import FinishedTask
    from htcgrid_events import CancelledSessions, DataRecord, GridInfo, SessionState, SessionSummary


class AsyncGrid:
    """A connection to a grid for programs with an event loop: `async with await AsyncGrid.connect() as grid:`.

    It has the methods of `Grid`, with `async` and `await`; errors and arguments are the same. Use it on the event loop
    on which it was connected. That loop is never blocked by a source of tasks, which is read in a thread of the grid's,
    unless it is a list or another sequence.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def connect(
        cls,
        profile: Profile | Path | str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        request_timeout: timedelta | float = timedelta(minutes=1),
        notifications: Notifications = "auto",
    ) -> Self:
        """See `Grid.connect`."""
        check_notifications(notifications)
        found = profile if isinstance(profile, Profile) else Profile.load(profile)
        limit = timedelta(seconds=as_seconds(request_timeout, "request_timeout") or 0.0)
        return cls(await Client.connect(found, username, password, limit, notifications))

    async def submit(
        self,
        tasks: Iterable[JSON],
        *,
        chunk_size: int | None = None,
        session_id: str | None = None,
        on_result: "Callable[[FinishedTask], object] | None" = None,
        on_exit: OnExit = "cancel_on_error",
        preload: bool = False,
        **options: Unpack[SubmitOptions],
    ) -> AsyncSession:
        """See `Grid.submit`."""
        check_on_exit(on_exit)
        settings, wanted_id = session_options(options), session_id_or_none(session_id)
        check_chunk_size(chunk_size)
        tasks = tasks_of(tasks)
        encoder = Encoder()
        if isinstance(tasks, Sequence):
            batches = encoder.encode(tasks, chunk_size)
            link, feed = await self._client.open(wanted_id, settings, encoder, preload=preload)
            await feed.send_all(batches, feed.close)
        else:
            encoder.known = await known_chunks(self._client.api, wanted_id)
            link, feed = await self._client.open(wanted_id, settings, encoder, preload=preload)
            await send_source(self._client, feed, tasks, chunk_size, Intake.close)
        if on_result is not None:
            await link.call_back(on_result, hand_over)
        return AsyncSession(self._client, link, on_exit)

    async def submit_one(self, event: JSON, **options: Unpack[SubmitOptions]) -> "asyncio.Future[Any]":
        """See `Grid.submit_one`."""
        session = await self.submit([event], **options)
        (future,) = await session.futures()
        return future

    async def map(
        self,
        tasks: Iterable[JSON],
        *,
        buffersize: int = 10_000,
        return_exceptions: bool = False,
        chunk_size: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncIterator[Any]:
        """See `Grid.map`."""
        settings = session_options(options)
        ahead = Lookahead(tasks, buffersize, chunk_size)
        link, feed = await self._client.open(None, settings, Encoder())
        reading = link.reading(in_order=True)
        ahead.start(UserLoop(self._client), feed)
        try:
            while parts := await ahead.next(reading):
                for part in parts:
                    for task in part:
                        ahead.took()
                        yield task.error if return_exceptions and task.error is not None else task.get()
        except BaseException as error:
            ahead.stop()
            await ahead.abandon(error, link)
            raise
        finally:
            reading.stop()

    async def put(
        self, data: Path | str | bytes, *, name: str | None = None, progress: "Progress | None" = None
    ) -> SharedData:
        """See `Grid.put`. Files are read in threads."""
        with ExitStack() as stack:
            source = await asyncio.to_thread(stack.enter_context, opened(data, name))
            return SharedData(await upload(self._client.api, source, progress))

    async def data(self) -> "AsyncIterator[DataRecord]":
        """See `Grid.data`."""
        async for page in data_pages(self._client.api):
            for record in page:
                yield record

    async def delete_data(self, sha256: str, *, force: bool = False) -> bool:
        """See `Grid.delete_data`."""
        return (await self._client.api.delete_data(sha256, force=force)).deleted

    async def resolve(self, event: JSON, folder: Path | str) -> JSON:
        """See `Grid.resolve`."""
        resolved: JSON = await Downloads(self._client.api, Path(folder)).resolve(event)
        return resolved

    async def open_session(
        self,
        *,
        session_id: str | None = None,
        on_result: "Callable[[FinishedTask], object] | None" = None,
        on_exit: OnExit = "cancel_on_error",
        **options: Unpack[SubmitOptions],
    ) -> AsyncSession:
        """See `Grid.open_session`."""
        check_on_exit(on_exit)
        settings, wanted_id = session_options(options), session_id_or_none(session_id)
        link, feed = await self._client.open(wanted_id, settings, Encoder())
        try:
            feed.encoder.known = await known_chunks(self._client.api, wanted_id)
            await feed.create()
        except BaseException as error:
            await feed.abandon(error)
            raise
        if on_result is not None:
            await link.call_back(on_result, hand_over)
        return AsyncSession(self._client, link, on_exit)

    async def attach(self, session_id: str, *, on_exit: OnExit = "keep") -> AsyncSession:
        """See `Grid.attach`."""
        check_on_exit(on_exit)
        return AsyncSession(self._client, await self._client.attach(session_id_of(session_id)), on_exit)

    async def sessions(
        self, *, state: "SessionState | str | None" = None, before: datetime | None = None
    ) -> "AsyncIterator[SessionSummary]":
        """See `Grid.sessions`."""
        async for page in session_pages(self._client.api, session_state(state), as_moment(before, "before")):
            for session in page:
                yield session

    async def cancel(self, session_ids: Iterable[str] | None) -> "CancelledSessions":
        """See `Grid.cancel`."""
        return await self._client.cancel_sessions(session_ids_of(session_ids))

    async def info(self) -> "GridInfo":
        """See `Grid.info`."""
        return await self._client.api.grid_info()

    async def close(self) -> None:
        """See `Grid.close`."""
        await self._client.close()

    def __repr__(self) -> str:
        return f"<AsyncGrid at {self._client.address} for {self._client.username}>"

    def _repr_html_(self) -> str:
        from htcgrid_events.views import table_of

        return table_of("grid", {"address": self._client.address, "user": self._client.username})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
