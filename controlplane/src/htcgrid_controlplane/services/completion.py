"""Counts finished chunks, tells whoever follows their session, and wakes the lifecycle of a session that is done."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from htcgrid_chunks.clock import Clock
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.push import (
    PushGateway,
    chunk_frames,
)
from htcgrid_controlplane.outbound.topic import Notifications
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import (
    BucketAccount,
    latest,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.budgets import Budgets
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_dataplane import decode_lines
from htcgrid_events import (
    ChunkCompleted,
    ChunkOutcome,
    Contract,
    FailedTask,
    OutcomeCode,
    TaskError,
    TasksFailed,
    bucket_of,
    task_id,
)

_MAX_MESSAGE = 500
"""Characters of an error's type and message on the bus; the whole is in the results."""
_MAX_LISTED_BYTES = 20_000
"""Bytes of failed tasks listed in one event: ten events in one request stay below its 256 KB ("Amazon EventBridge
quotas"). The event's number of failures counts those left out."""


@dataclass(frozen=True)
class Completions:
    """Deals with the task events of agents, which come at least once."""

    sessions: SessionStore
    accounts: AccountStore
    bus: EventBus
    push: PushGateway
    notifications: Notifications
    budgets: Budgets
    waker: Waker
    clock: Clock

    def record(self, session_id: str, outcomes: Sequence[ChunkOutcome]) -> None:
        """Count outcomes of one session exactly once, and announce them at least once.

        The account comes first: if anything after it fails, the events come again, find themselves counted, and are
        announced again. Whoever is pushed to tells repetitions by the chunk's number.
        """
        session = self.sessions.read(session_id)
        now = self.clock()
        stamped = [_notified(outcome, now) for outcome in latest(outcomes).values()]
        accounts, counted = self._count(session_id, stamped, now)
        stamped = [outcome for outcome in stamped if not accounts[bucket_of(outcome.chunk)].outdates(outcome)]
        session = self._note_full(session, frozenset(bucket for bucket, account in accounts.items() if account.full))
        session = self.budgets.spend(session, stamped, counted)
        self.bus.put(list(_events(session, stamped)))
        frames = list(chunk_frames(session_id, stamped))
        self.push.push(session.subscribers, frames)
        if session.options.publish_outcomes:
            self.notifications.publish(session.tenant, frames)
        self.waker.wake(session)

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


def _events(session: Session, outcomes: Iterable[ChunkOutcome]) -> Iterator[tuple[str, Contract]]:
    for outcome in outcomes:
        if failed := outcome.count(OutcomeCode.FAILED):
            yield (
                "Tasks Failed",
                TasksFailed(
                    session_id=session.session_id,
                    tenant=session.tenant,
                    chunk=outcome.chunk,
                    failed=failed,
                    tasks=tuple(_failed_tasks(session.session_id, outcome)),
                ),
            )
        if session.options.publish_completions:
            yield (
                "Chunk Completed",
                ChunkCompleted(
                    session_id=session.session_id,
                    tenant=session.tenant,
                    chunk=outcome.chunk,
                    first_task=outcome.first_task,
                    outcomes=outcome.outcomes,
                    stages=outcome.stages,
                ),
            )


def _failed_tasks(session_id: str, outcome: ChunkOutcome) -> Iterator[FailedTask]:
    if outcome.results is None:
        return
    room = _MAX_LISTED_BYTES
    lines = decode_lines(outcome.results, outcome.size)
    for offset, (code, line) in enumerate(zip(outcome.outcomes, lines, strict=True)):
        if code == OutcomeCode.FAILED.value:
            task = _failed_task(task_id(session_id, outcome.first_task + offset), TaskError.model_validate_json(line))
            room -= len(task.model_dump_json().encode())
            if room < 0:
                return
            yield task


def _failed_task(name: str, error: TaskError) -> FailedTask:
    return FailedTask(
        task_id=name,
        kind=error.kind,
        type=error.type[:_MAX_MESSAGE],
        message=error.message[:_MAX_MESSAGE],
        attempts=error.attempts,
    )
