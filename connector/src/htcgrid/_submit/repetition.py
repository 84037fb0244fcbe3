"""What the grid has already of a submission that is repeated."""

from typing import TYPE_CHECKING

from htcgrid._submit.packing import KnownChunks
from htcgrid._submit.submission import REQUESTS_AT_A_TIME
from htcgrid.errors import SessionNotFound

if TYPE_CHECKING:
    from htcgrid._transport.api import Api


async def known_chunks(api: "Api", session_id: str | None) -> KnownChunks:
    """The chunks of this session on the grid; none for a session that is new, which has no id yet."""
    records: list[tuple[int, int, int]] = []
    bucket, empty = 0, 0
    # Requests overtake one another: as many buckets may be empty before the last as there are requests on their way.
    while session_id is not None and empty <= REQUESTS_AT_A_TIME:
        before, after, more = len(records), None, True
        while more:
            try:
                page = await api.chunks(session_id, bucket, after)
            except SessionNotFound:
                return KnownChunks(())
            records.extend((chunk.chunk, chunk.first_task, chunk.size) for chunk in page.chunks)
            after = page.next_after
            more = after is not None
        bucket += 1
        empty = empty + 1 if len(records) == before else 0
    return KnownChunks(records)
