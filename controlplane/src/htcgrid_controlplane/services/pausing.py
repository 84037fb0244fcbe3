"""Pauses and resumes sessions: chunks that wait are paused, those that run finish.

A paused chunk cannot be claimed, and the agent that receives its message deletes it. On resume it gets another message.
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
from htcgrid_controlplane.services.quotas import Quotas
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import SessionPaused, SessionResumed


@dataclass(frozen=True)
class Pausing:
    """Writes into a session's row whether it is paused, and applies that to its chunks."""

    quotas: Quotas
    sessions: SessionStore
    chunks: ChunkStore
    queues: TaskQueues
    bus: EventBus

    def pause(self, tenant: str, session_id: str) -> Session:
        """Pause the session's waiting chunks, and those that are still submitted. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
            QuotaExceeded: the tenant moves chunks too often.
        """
        return self._say(tenant, session_id, paused=True)

    def resume(self, tenant: str, session_id: str) -> Session:
        """Resume the session's paused chunks. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
            QuotaExceeded: the tenant moves chunks too often.
        """
        return self._say(tenant, session_id, paused=False)

    def follow(self, session_id: str, first_bucket: int) -> int | None:
        """Apply what the session's row says to the chunks of some buckets. Returns the first bucket of the next step,
        or none when all buckets are done.

        Two executions may be under way, one for a pause and one for what resumed it. Each looks at the row again after
        its writes and repeats the step if it has changed meanwhile, so the last request wins.
        """
        session = self.sessions.read(session_id)
        beyond = min(first_bucket + BUCKETS_PER_STEP, session.buckets)
        for bucket in range(first_bucket, beyond):
            self._follow_bucket(session, bucket)
        if self.sessions.read(session_id).paused != session.paused:
            return first_bucket
        return beyond if beyond < session.buckets else None

    def _say(self, tenant: str, session_id: str, *, paused: bool) -> Session:
        session = self.sessions.read_of(tenant, session_id)
        if not session.state.ended:
            self.quotas.move(session)
        session = self.sessions.pause(session_id, paused=paused)
        if not session.state.ended:
            event = SessionPaused if paused else SessionResumed
            self.bus.put([event(session_id=session_id, tenant=tenant)])
        return session

    def _follow_bucket(self, session: Session, bucket: int) -> None:
        after: int | None = ACCOUNT_ROW
        while after is not None:
            page, following = self.chunks.bucket(session, bucket, after)
            # A row that changed between reading and writing is read again with its page.
            settled = self._pause(page) if session.paused else self._resume(session, page)
            if settled:
                after = following

    def _pause(self, page: list[Chunk]) -> bool:
        return all(self.chunks.pause([chunk for chunk in page if chunk.waits]))

    def _resume(self, session: Session, page: list[Chunk]) -> bool:
        resumed = all(self.chunks.resume([chunk for chunk in page if chunk.state is ChunkState.PAUSED]))
        # Queued ones too: this step may have been cut short between a resumed chunk and its message.
        waiting = [chunk.key.chunk for chunk in page if chunk.state in (ChunkState.PAUSED, ChunkState.QUEUED)]
        if resumed and waiting:
            self.queues.send(session, waiting)
        return resumed
