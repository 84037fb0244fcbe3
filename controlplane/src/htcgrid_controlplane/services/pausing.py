"""Pauses and resumes sessions: chunks that wait are held, those that run finish.

A held chunk cannot be claimed, and its message is deleted by whoever receives it; when it is released it gets another.
A chunk that runs when its session is paused is run to its end, its retries included.
"""

from dataclasses import dataclass

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import (
    ACCOUNT_ROW,
    ChunkStore,
)
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.lifecycle import BUCKETS_PER_STEP
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import SessionHeld


@dataclass(frozen=True)
class Holds:
    """Says in a session's row whether it is paused, and lets its chunks follow."""

    sessions: SessionStore
    chunks: ChunkStore
    queues: TaskQueues
    bus: EventBus

    def pause(self, tenant: str, session_id: str) -> Session:
        """Hold the session's waiting chunks, and those that it is still given. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        return self._say(tenant, session_id, paused=True)

    def resume(self, tenant: str, session_id: str) -> Session:
        """Let them go again. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        return self._say(tenant, session_id, paused=False)

    def follow(self, session_id: str, first_bucket: int) -> int | None:
        """Let the chunks of some buckets follow what the session's row says. Gives the bucket with which the next step
        goes on, or none when all have followed.

        Two executions may be under way, one for a pause and one for what resumed it. Each looks at the row again after
        its writes and repeats the step if it has changed meanwhile, so the last word holds.
        """
        session = self.sessions.read(session_id)
        beyond = min(first_bucket + BUCKETS_PER_STEP, session.buckets)
        for bucket in range(first_bucket, beyond):
            self._follow_bucket(session, bucket)
        if self.sessions.read(session_id).paused != session.paused:
            return first_bucket
        return beyond if beyond < session.buckets else None

    def _say(self, tenant: str, session_id: str, *, paused: bool) -> Session:
        self.sessions.read_of(tenant, session_id)
        session = self.sessions.pause(session_id, paused=paused)
        if not session.state.ended:
            detail = SessionHeld(session_id=session_id, tenant=tenant)
            self.bus.put([("Session Paused" if paused else "Session Resumed", detail)])
        return session

    def _follow_bucket(self, session: Session, bucket: int) -> None:
        after: int | None = ACCOUNT_ROW
        while after is not None:
            page, following = self.chunks.bucket(session.session_id, bucket, after)
            # A row that changed between reading and writing is read again with its page.
            settled = self._hold(page) if session.paused else self._release(session, page)
            if settled:
                after = following

    def _hold(self, page: list[Chunk]) -> bool:
        return all(self.chunks.hold([chunk for chunk in page if chunk.waits]))

    def _release(self, session: Session, page: list[Chunk]) -> bool:
        released = all(self.chunks.release([chunk for chunk in page if chunk.state is ChunkState.PAUSED]))
        # Queued ones too: this step may have been cut short between a release and its message.
        waiting = [chunk.key.chunk for chunk in page if chunk.state in (ChunkState.PAUSED, ChunkState.QUEUED)]
        if released and waiting:
            self.queues.send(session, waiting)
        return released
