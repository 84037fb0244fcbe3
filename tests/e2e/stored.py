"""What a local grid has stored."""

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_local import LocalGrid

_RETENTION_DAYS = 7
"""As in the template."""


class Stored:
    """Reads rows of sessions and chunks."""

    def __init__(self, local_grid: LocalGrid) -> None:
        client = local_grid.client("dynamodb")
        self._sessions = SessionStore(client, local_grid.outputs["SessionsTable"], system_clock, _RETENTION_DAYS)
        self._chunks = ChunkStore(client, local_grid.outputs["ChunksTable"])

    def session(self, session_id: str) -> Session:
        """The row of a session."""
        return self._sessions.read(session_id)

    def rows(self, session_id: str, buckets: int = 1) -> list[Chunk]:
        """The rows of the first buckets of a session."""
        session = self.session(session_id)
        return [row for bucket in range(buckets) for row in self._chunks.rows(session, bucket)]
