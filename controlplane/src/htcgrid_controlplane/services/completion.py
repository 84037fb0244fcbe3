"""Counts finished chunks, wakes the workflow of a session that is done, and announces the outcomes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.outbound.announcements import Announcements
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import (
    BucketAccount,
    latest,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.budgets import Budgets
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import (
    ChunkOutcome,
    bucket_of,
)


@dataclass(frozen=True)
class Completions:
    """Handles the task events of agents, which come at least once."""

    sessions: SessionStore
    accounts: AccountStore
    announcements: Announcements
    budgets: Budgets
    waker: Waker
    clock: Clock

    def record(self, session_id: str, outcomes: Sequence[ChunkOutcome]) -> None:
        """Count outcomes of one session exactly once, and announce them at least once.

        The account comes first: if anything after it fails, the events come again, find themselves counted, and are
        announced again. Then the workflow is woken, so that no announcement can keep a session from its end. Whoever
        is pushed to tells repetitions by the chunk's number.
        """
        session = self.sessions.read(session_id)
        now = self.clock()
        stamped = [_notified(outcome, now) for outcome in latest(outcomes).values()]
        accounts, counted = self._count(session_id, stamped, now)
        stamped = [outcome for outcome in stamped if not accounts[bucket_of(outcome.chunk)].outdates(outcome)]
        session = self._note_full(session, frozenset(bucket for bucket, account in accounts.items() if account.full))
        session = self.budgets.spend(session, stamped, counted)
        self.waker.wake(session)
        self.announcements.outcomes(session, stamped)

    def _note_full(self, session: Session, full: frozenset[int]) -> Session:
        while full - session.full_buckets:
            noted = self.sessions.add_full(session, full)
            if noted.redrives == session.redrives:
                return noted
            # A chunk was reopened meanwhile, perhaps of one of these buckets.
            session = noted
            accounts = self.accounts.read(session.session_id, sorted(full))
            full = frozenset(account.bucket for account in accounts if account.full)
        return session

    def _count(
        self, session_id: str, outcomes: Sequence[ChunkOutcome], now: int
    ) -> tuple[dict[int, BucketAccount], frozenset[int]]:
        """Count outcomes. Gives the accounts of their buckets then, and the chunks that had not been counted before."""
        by_bucket: defaultdict[int, list[ChunkOutcome]] = defaultdict(list)
        for outcome in outcomes:
            by_bucket[bucket_of(outcome.chunk)].append(outcome)
        accounts, counted = dict[int, BucketAccount](), set[int]()
        for bucket, members in by_bucket.items():
            accounts[bucket], new = self.accounts.record(session_id, bucket, members, now)
            counted.update(new)
        return accounts, frozenset(counted)


def _notified(outcome: ChunkOutcome, now: int) -> ChunkOutcome:
    return outcome.model_copy(update={"stages": outcome.stages.model_copy(update={"notified_at": now})})
