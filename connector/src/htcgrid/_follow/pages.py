"""Lists that the grid answers in pages, each page read when it is needed."""

from collections import Counter
from typing import TYPE_CHECKING

from htcgrid_events import BUCKET_SIZE, OutcomeCode, TaskState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from htcgrid._transport.api import Api
    from htcgrid_events import ChunkRecord, DataRecord, DeadLetter, SessionState, SessionSummary

_STATES: dict[str, TaskState] = {
    OutcomeCode.COMPLETED: TaskState.COMPLETED,
    OutcomeCode.FAILED: TaskState.FAILED,
    OutcomeCode.CANCELLED: TaskState.CANCELLED,
}
"""The states of tasks that have an outcome; others are in the state of their chunk."""


async def session_pages(
    api: "Api", state: "SessionState | None", before: str | None
) -> "AsyncIterator[tuple[SessionSummary, ...]]":
    """The user's sessions, newest first."""
    while True:
        page = await api.sessions(state, before)
        yield page.sessions
        if page.next_before is None:
            return
        before = page.next_before


async def data_pages(api: "Api") -> "AsyncIterator[tuple[DataRecord, ...]]":
    """The user's shared data, in the order of digests."""
    after: str | None = None
    while True:
        page = await api.data_page(after)
        yield page.data
        if page.next_after is None:
            return
        after = page.next_after


async def chunk_pages(api: "Api", session_id: str) -> "AsyncIterator[tuple[ChunkRecord, ...]]":
    """A session's chunks as they are now, in their order."""
    status = await api.status(session_id)
    for bucket in range(-(-status.chunks // BUCKET_SIZE)):
        after: int | None = None
        while True:
            page = await api.chunks(session_id, bucket, after)
            yield page.chunks
            if page.next_after is None:
                break
            after = page.next_after


async def tasks_by_state(api: "Api", session_id: str) -> dict[TaskState, int]:
    """How many tasks are in each state now, without the states of none."""
    counts: Counter[TaskState] = Counter()
    async for page in chunk_pages(api, session_id):
        for chunk in page:
            for code, tasks in Counter(chunk.outcomes).items():
                counts[_STATES.get(code, chunk.state)] += tasks
    return dict(counts)


async def dead_letter_pages(api: "Api", session_id: str) -> "AsyncIterator[tuple[DeadLetter, ...]]":
    """A session's dead letters, in the order of its chunks."""
    bucket: int | None = None
    after: int | None = None
    while True:
        page = await api.dead_letters(session_id, bucket, after)
        yield page.letters
        if page.next_bucket is None:
            return
        bucket, after = page.next_bucket, page.next_after
