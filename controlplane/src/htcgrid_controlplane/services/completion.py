"""Counts finished chunks, wakes the workflow of a session that is done, and announces the outcomes."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.outbound.announcements import Announcements
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import BucketAccount
from htcgrid_controlplane.rules.scaling import Work
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.budgets import Budgets
from htcgrid_controlplane.services.measuring import Measurements
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.reported_chunks import ReportedChunks
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import MAX_TASKS_PER_CHUNK, ChunkOutcome, TasksRetrying, WorkDone, bucket_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Completions:
    """Handles the task events of agents, which come at least once."""

    reported: ReportedChunks
    sessions: SessionStore
    accounts: AccountStore
    announcements: Announcements
    budgets: Budgets
    measurements: Measurements
    waker: Waker
    clock: Clock

    def record(
        self, session_id: str, events: Collection[ChunkOutcome], done: Iterable[WorkDone] = ()
    ) -> list[ChunkOutcome]:
        """Count outcomes of one session exactly once, and announce them at least once. Gives those that were announced.

        An event only says where to look: what is counted is what the chunk's row says, so an event that its row does
        not bear out changes nothing.

        The account comes first: if anything after it fails, the events come again, find themselves counted, and are
        announced again. Then the workflow is woken, so that no announcement can keep a session from its end. Whoever
        is pushed to tells repetitions by the chunk's number. `done` is what workers did, as the events say.
        """
        session, rows = self.reported.read(session_id, {event.chunk for event in events})
        now = self.clock()
        outcomes = [row.outcome(notified_at=now) for row in rows if row.finished]
        if unproven := {event.chunk for event in events} - {outcome.chunk for outcome in outcomes}:
            ids = {"session_id": session_id, "chunks": sorted(unproven)}
            _LOG.warning("events tell of chunks that have not finished: they are ignored", extra=ids)
        accounts, counted = self._count(session, outcomes, now)
        outcomes = [outcome for outcome in outcomes if not accounts[bucket_of(outcome.chunk)].outdates(outcome)]
        session = self._note_full(session, frozenset(bucket for bucket, account in accounts.items() if account.full))
        session = self.budgets.spend(session, outcomes, counted)
        self.waker.wake(session)
        self.announcements.outcomes(session, outcomes)
        self._measure(session, done)
        return outcomes

    def announce_retries(self, session_id: str, events: Collection[TasksRetrying]) -> None:
        """Announce tasks that are run again, in the name of the tenant whose session it is, and which of the others of
        their chunks are final, as the rows say: these are counted when their chunk has finished. Nobody is told of a
        session that does not exist any more.

        Raises:
            StorageUnavailable: the bus kept refusing an event; the caller is to repeat the whole step.
        """
        try:
            session, rows = self.reported.read(session_id, {event.chunk for event in events})
        except SessionNotFound:
            return
        self.announcements.bus.put([event.model_copy(update={"tenant": session.tenant}) for event in events])
        now = self.clock()
        # A chunk that has finished meanwhile sends an event of its own.
        open_rows = [row for row in rows if row.partly_final and not row.finished]
        self.announcements.partial_outcomes(session, [row.partial_outcome(notified_at=now) for row in open_rows])
        self._measure(session, (event.work for event in events))

    def _measure(self, session: Session, done: Iterable[WorkDone]) -> None:
        # Agents say so, and nothing bears it out: no more is believed than a chunk can hold and its tasks may take.
        for each in done:
            tasks = min(each.tasks, MAX_TASKS_PER_CHUNK)
            longest = tasks * session.options.task_timeout_seconds * 1_000_000
            work = Work(attempts=1, tasks=tasks, worker_us=min(each.worker_us, longest))
            self.measurements.add(session.options.partition, work)

    def _note_full(self, session: Session, full: frozenset[int]) -> Session:
        while full - session.full_buckets:
            noted = self.sessions.add_full(session, full)
            if noted.redrives == session.redrives:
                return noted
            # A chunk was reopened meanwhile, perhaps of one of these buckets.
            session = noted
            accounts = self.accounts.read(session, sorted(full))
            full = frozenset(account.bucket for account in accounts if account.full)
        return session

    def _count(
        self, session: Session, outcomes: Sequence[ChunkOutcome], now: int
    ) -> tuple[dict[int, BucketAccount], frozenset[int]]:
        """Count outcomes. Gives the accounts of their buckets then, and the chunks that had not been counted before."""
        by_bucket: defaultdict[int, list[ChunkOutcome]] = defaultdict(list)
        for outcome in outcomes:
            by_bucket[bucket_of(outcome.chunk)].append(outcome)
        accounts, counted = dict[int, BucketAccount](), set[int]()
        for bucket, members in by_bucket.items():
            accounts[bucket], new = self.accounts.record(session, bucket, members, now)
            counted.update(new)
        return accounts, frozenset(counted)
