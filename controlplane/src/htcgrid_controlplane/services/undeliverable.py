"""Handles undeliverable messages: those that agents received again and again without handling them.

SQS moves such a message into the undeliverable queue. Attempts are counted in the chunk's row, so this
is no verdict on its tasks: agents may have been unable to reach the table. The chunk gets another message, a few times;
only if nobody has claimed it in all that time it is given up, since its session must not wait for it for ever.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.lease_rules import recovered
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_events import TaskEvents
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.giving_up import GivingUp
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import ChunkFinished, ChunkQueued, LeaseAction

MAX_REDELIVERIES = 3
"""Messages that a chunk gets anew although nobody claims it. Each is received 100 times, at least a minute apart while
agents cannot claim: so a chunk is given up after some six hours at the earliest."""
_LONGEST_DELAY = timedelta(minutes=15)
"""SQS hides a new message for no longer (SendMessage in the Amazon SQS API Reference)."""


@dataclass(frozen=True)
class UndeliverableMessages:
    """Handles the messages in the undeliverable queue."""

    sessions: SessionStore
    chunks: ChunkStore
    accounts: AccountStore
    giving_up: GivingUp
    queues: TaskQueues
    task_events: TaskEvents
    bus: EventBus
    clock: Clock

    def handle(self, queued: ChunkQueued) -> LeaseAction | None:
        """Do what the chunk of a message needs; nothing if others take care of it. Then the message may be deleted.

        Repeating it does no harm: a second message of a chunk, or a second event, changes nothing.
        """
        try:
            session = self.sessions.read(queued.session_id)
        except SessionNotFound:
            return None
        row = self.chunks.read(session, queued.chunk)
        action = self._action(session, row) if row else None
        if row is None or action is None:
            return None
        handled = row
        match action:
            case LeaseAction.SENT_AGAIN:
                if not self.chunks.redeliver(row):
                    # Somebody has written the row since: it is being taken care of.
                    return None
                wait = min(_LONGEST_DELAY, timedelta(milliseconds=max(0, row.claimable_at - self.clock())))
                self.queues.send(session, [row.key.chunk], {row.key.chunk: wait})
            case LeaseAction.GIVEN_UP:
                last = self.giving_up.give_up(row, f"No agent could claim the task's chunk ({row.attempt} attempts).")
                if last is None:
                    return None
                handled = last
                self._count(last)
            case LeaseAction.COUNTED:
                self._count(row)
        self.bus.put([recovered(handled, action)])
        return action

    def _action(self, session: Session, row: Chunk) -> LeaseAction | None:
        if session.state.ended or session.stop_reason is not None:
            return None  # its lifecycle settles its chunks
        match row.state:
            case ChunkState.FINISHED:
                account = self.accounts.read(session, [row.key.bucket])[0]
                return LeaseAction.COUNTED if account.awaits(row.outcome()) else None
            case ChunkState.QUEUED | ChunkState.RETRY | ChunkState.RUNNING:
                in_vain = row.waits and row.redeliveries_in_vain >= MAX_REDELIVERIES
                return LeaseAction.GIVEN_UP if in_vain else LeaseAction.SENT_AGAIN
            case ChunkState.PAUSED:
                return None  # it gets a message when it is resumed
        assert_never(row.state)

    def _count(self, row: Chunk) -> None:
        self.task_events.send([ChunkFinished(session_id=row.key.session_id, outcome=row.outcome())])
