"""Sees that tenants keep to their limits. What a session takes is noted in its row, and given back with its verdict."""

from collections.abc import Collection
from dataclasses import dataclass

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.errors import NotAllowed, QuotaExceeded, SessionChanged, SessionNotFound
from htcgrid_controlplane.rules.quotas import Demand
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.tenants import TenantStore
from htcgrid_events import BUCKET_SIZE, MAX_CHUNKS_PER_REQUEST, ChunkInput


@dataclass(frozen=True)
class Quotas:
    """Takes a tenant's share for what it submits."""

    tenants: TenantStore
    sessions: SessionStore
    clock: Clock

    def create(self, session: Session, chunks: Collection[ChunkInput]) -> bool:
        """Insert a session's row and take the share of the session and its first chunks; false if there is one with
        this id already, and then nothing is taken.

        Raises:
            QuotaExceeded, NotAllowed: the tenant may not have so much, or not such options.
        """
        demand = Demand(
            sessions=1,
            submissions=1,
            tasks=session.counted_tasks or 0,
            stored_bytes=_inline_bytes(chunks),
            options=session.options,
        )
        try:
            failed = self.tenants.take(session.tenant, demand, self.clock(), [self.sessions.insertion(session)])
        except (QuotaExceeded, NotAllowed):
            # A repeated request asks for nothing new, so it is not refused for what its first one took.
            if self._exists(session.session_id):
                return False
            raise
        return failed is None

    def add(self, session: Session, chunks: Collection[ChunkInput]) -> None:
        """Take the share of chunks that a session has not counted yet.

        Raises:
            QuotaExceeded, NotAllowed: the tenant may not have so much.
            SessionChanged: the session was stopped meanwhile.
        """
        tasks = sum(chunk.size for chunk in chunks)
        demand = Demand(submissions=1, tasks=tasks, stored_bytes=_inline_bytes(chunks))
        counting = self.sessions.counting(session.session_id, chunks=len(chunks), tasks=tasks)
        if self.tenants.take(session.tenant, demand, self.clock(), [counting]) is not None:
            raise SessionChanged(f"Session {session.session_id} was stopped.")

    def store(self, tenant: str, stored_bytes: int, submissions: int = 0) -> None:
        """Take the share of inputs that are uploaded, and of requests that announce them.

        Raises:
            QuotaExceeded, NotAllowed: the tenant may not store so much.
        """
        self.tenants.take(tenant, Demand(submissions=submissions, stored_bytes=stored_bytes), self.clock())

    def repeat(self, session: Session) -> None:
        """Take the share of a request that asks for nothing new: it costs the grid as much as its first one did, and
        its chunks get messages again.

        Raises:
            QuotaExceeded: the tenant may not submit so often.
        """
        self.tenants.take(session.tenant, Demand(submissions=1), self.clock())

    def move(self, session: Session) -> None:
        """Take the share of a request that moves all chunks of a session: as much as submitting them.

        Raises:
            QuotaExceeded: the tenant may not submit so often.
        """
        requests = -(-session.buckets * BUCKET_SIZE // MAX_CHUNKS_PER_REQUEST)
        self.tenants.take(session.tenant, Demand(submissions=max(1, requests)), self.clock())

    def _exists(self, session_id: str) -> bool:
        try:
            self.sessions.read(session_id)
        except SessionNotFound:
            return False
        return True


def _inline_bytes(chunks: Collection[ChunkInput]) -> int:
    return sum(len(chunk.inputs) for chunk in chunks if chunk.inputs is not None)
