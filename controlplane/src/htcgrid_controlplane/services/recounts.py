"""Counts a session's account again from its rows, when the account does not close."""

from collections.abc import Iterable
from dataclasses import dataclass

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.rules.accounting import total_of
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.lifecycle import BUCKETS_PER_STEP
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import Account, AccountMismatch, OutcomeCode

_TRIES = 5
"""Readings of a bucket whose rows and account do not tell of the same chunks. The last one counts: an account that
names chunks whose rows are open stays like that."""


@dataclass(frozen=True)
class Recounts:
    """Mends accounts. The rows are the truth: an account only sums up what they say."""

    sessions: SessionStore
    chunks: ChunkStore
    accounts: AccountStore
    bus: EventBus
    clock: Clock

    def recount(self, session_id: str, first_bucket: int) -> int | None:
        """Let the accounts of some buckets say what their rows say. Gives the bucket with which the next step goes on,
        or none when all are counted. Tells the bus of each step that had to change something."""
        session = self.sessions.read(session_id)
        beyond = min(first_bucket + BUCKETS_PER_STEP, session.buckets)
        buckets = range(first_bucket, beyond)
        before = total_of(self.accounts.read(session, buckets))
        for bucket in buckets:
            self._recount_bucket(session, bucket)
        after = total_of(self.accounts.read(session, buckets))
        if after != before:
            mismatch = AccountMismatch(session_id=session_id, tenant=session.tenant, before=before, after=after)
            self.bus.put([mismatch])
        return beyond if beyond < session.buckets else None

    def _recount_bucket(self, session: Session, bucket: int) -> None:
        for _ in range(_TRIES):
            seen = self.accounts.read(session, [bucket])[0]
            rows = [row for row in self.chunks.rows(session, bucket) if row.key.chunk in seen.submitted]
            finished = {row.key.chunk: row for row in rows if row.finished}
            uncounted = [row.outcome() for chunk, row in finished.items() if chunk not in seen.finished]
            if uncounted:
                seen, _ = self.accounts.record(session, bucket, uncounted, self.clock())
            if seen.finished.keys() == finished.keys():
                break
            # A chunk was counted or reopened since the rows were read.
        true = Account(
            submitted=sum(row.size for row in rows),
            completed=_count(finished.values(), OutcomeCode.COMPLETED),
            failed=_count(finished.values(), OutcomeCode.FAILED),
            cancelled=_count(finished.values(), OutcomeCode.CANCELLED),
        )
        if seen.tasks != true:
            self.accounts.correct(session, seen, true)


def _count(rows: Iterable[Chunk], code: OutcomeCode) -> int:
    return sum(row.outcomes.count(code.value) for row in rows)
