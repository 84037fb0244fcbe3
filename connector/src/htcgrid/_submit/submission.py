"""Sending the chunks of a new session: a few requests at a time, the last one alone."""

import asyncio
from typing import TYPE_CHECKING

from htcgrid._aio.task_group import together
from htcgrid_events import AddChunks, ChunkInput, CreateSession, SessionOptions, Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htcgrid._submit.packing import EncodedChunk
    from htcgrid._submit.references import References
    from htcgrid._transport.api import Api

REQUESTS_AT_A_TIME = 4
"""Requests of one submission in flight: enough to hide their latency, few enough to bound memory."""

UPLOADS_AT_A_TIME = 8
"""Uploads of one request in flight."""


class Submission:
    """Creates a session and fills it. Used by one caller, one call at a time."""

    def __init__(
        self, api: "Api", session_id: str, options: SessionOptions, subscriber_id: str | None, *, preload: bool = False
    ) -> None:
        """`preload` has the agents fetch the shared data of the first chunks before their tasks want it."""
        self._api = api
        self._preload = preload
        self.session_id = session_id
        self._options = options
        self._subscriber_id = subscriber_id
        self._slots = asyncio.Semaphore(REQUESTS_AT_A_TIME)
        self._sending: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._chunks = 0
        self._tasks = 0
        self.begun = False
        """Whether the grid may know the session."""
        self.created = False
        """Whether the grid knows the session."""

    async def create(self) -> None:
        """Create the session without a chunk. Raises what `Api` raises, as all of these do."""
        await self._create((), (), None)

    async def send(self, batch: "Sequence[EncodedChunk]") -> None:
        """Send chunks that are not the last. Returns as soon as the next may follow."""
        self._count(batch)
        if not self.created:
            await self._create(batch, await self._inputs(batch), None)
            return
        await self._slots.acquire()
        if self._failure is not None:
            raise self._failure
        task = asyncio.create_task(self._add(batch))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    async def settle(self) -> None:
        """Wait until everything sent was acknowledged."""
        while self._sending:
            await asyncio.wait(self._sending)
        if self._failure is not None:
            raise self._failure

    async def finish(self, last: "Sequence[EncodedChunk]") -> None:
        """Send the last chunks, if any, with the totals, which close the session, when all else was acknowledged."""
        self._count(last)
        inputs = await self._inputs(last)
        await self.settle()
        totals = Totals(chunks=self._chunks, tasks=self._tasks)
        if not self.created:
            await self._create(last, inputs, totals)
        else:
            await self._api.add_chunks(self.session_id, AddChunks(chunks=inputs, data=_digests(last), totals=totals))

    async def stop(self) -> None:
        """Give up the requests in flight."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    @property
    def totals(self) -> tuple[int, int]:
        """Chunks and tasks sent."""
        return self._chunks, self._tasks

    async def _create(
        self, batch: "Sequence[EncodedChunk]", inputs: tuple[ChunkInput, ...], totals: Totals | None
    ) -> None:
        request = CreateSession(
            chunks=inputs,
            totals=totals,
            options=self._options,
            subscriber_id=self._subscriber_id,
            data=_digests(batch),
            preload=tuple(_data(batch).values()) if self._preload else (),
        )
        self.begun = True
        await self._api.create_session(self.session_id, request)
        self.created = True

    async def _add(self, batch: "Sequence[EncodedChunk]") -> None:
        request = AddChunks(chunks=await self._inputs(batch), data=_digests(batch))
        await self._api.add_chunks(self.session_id, request)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._sending.discard(task)
        self._slots.release()
        if not task.cancelled() and self._failure is None:
            self._failure = task.exception()

    async def _inputs(self, batch: "Sequence[EncodedChunk]") -> tuple[ChunkInput, ...]:
        """The batch as the contract has it, after large inputs were put into the data plane."""
        large = [chunk for chunk in batch if not chunk.inline]
        store = "s3"
        if large:
            sizes = {chunk.chunk: len(chunk.inputs) for chunk in large}
            places = await self._api.upload_places(self.session_id, sizes)
            store = places.store
            slots = asyncio.Semaphore(UPLOADS_AT_A_TIME)

            async def upload(chunk: "EncodedChunk") -> None:
                async with slots:
                    number = chunk.chunk
                    await self._api.payloads.put(
                        places.urls[number], places.headers, chunk.inputs, places.taken.get(number)
                    )

            await together(upload(chunk) for chunk in large)
        return tuple(_input(chunk, "s3" if chunk.inline else store) for chunk in batch)

    def _count(self, batch: "Sequence[EncodedChunk]") -> None:
        self._chunks += len(batch)
        self._tasks += sum(chunk.size for chunk in batch)


def _data(batch: "Sequence[EncodedChunk]") -> "References":
    """The shared data to which the tasks of a batch refer."""
    return {reference.sha256: reference for chunk in batch for reference in chunk.data}


def _digests(batch: "Sequence[EncodedChunk]") -> tuple[str, ...]:
    return tuple(_data(batch))


def _input(chunk: "EncodedChunk", store: str) -> ChunkInput:
    return ChunkInput(
        chunk=chunk.chunk,
        first_task=chunk.first_task,
        size=chunk.size,
        inputs=chunk.inputs if chunk.inline else None,
        stored_bytes=None if chunk.inline else len(chunk.inputs),
        store=store,
    )
