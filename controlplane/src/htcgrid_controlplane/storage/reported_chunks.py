"""Reads the rows of chunks that task events name, together with the row of their session.

Agents write the events, so they are taken as hints: what is counted and announced is what the rows say. Both tables are
read in the one request that reading the session would take anyway.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from htcgrid_chunks.attributes import Item, text
from htcgrid_chunks.chunk import Chunk, ChunkKey
from htcgrid_chunks.chunk_rows import chunk_of, key_attributes
from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.batch_get import MAX_KEYS, batch_get, batch_get_tables
from htcgrid_controlplane.storage.session_rows import session_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient


class ReportedChunks:
    """Reads rows of the sessions and the chunks table together."""

    def __init__(self, client: "DynamoDBClient", sessions_table: str, chunks_table: str, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._sessions_table = sessions_table
        self._chunks_table = chunks_table

    def read(self, session_id: str, chunks: Collection[int]) -> tuple[Session, list[Chunk]]:
        """A session and the rows of these chunks of it, as last written, in the order of their numbers; chunks that it
        does not have are left out.

        Raises:
            SessionNotFound: there is no such session, or it is past its time.
            StorageUnavailable: DynamoDB kept refusing.
        """
        keys = [key_attributes(ChunkKey(session_id, chunk)) for chunk in sorted(set(chunks))]
        first, rest = keys[: MAX_KEYS - 1], keys[MAX_KEYS - 1 :]
        found = batch_get_tables(
            self._client,
            {self._sessions_table: [{"session_id": text(session_id)}], self._chunks_table: first},
        )
        session = next(map(session_of, found[self._sessions_table]), None)
        if session is None or session.forgotten(self._clock()):
            raise SessionNotFound(session_id)
        items = [*found[self._chunks_table], *batch_get(self._client, self._chunks_table, rest)]
        rows = [_chunk(session_id, item) for item in items]
        return session, sorted((row for row in rows if session.owns(row)), key=lambda row: row.key.chunk)


def _chunk(session_id: str, item: Item) -> Chunk:
    return chunk_of(ChunkKey(session_id, item.number("chunk")), item)
