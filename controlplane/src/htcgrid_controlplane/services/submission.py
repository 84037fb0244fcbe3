"""Creates sessions and adds chunks to them, as the connector submits them.

The order makes every crash harmless, because the client repeats what was not acknowledged: the session's row and its
event, so that somebody watches over it; then rows; then the account; and messages last, since an agent that sees a
message must find the row. Every step is a write on condition of absence, or of no consequence when repeated.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import (
    PAUSED_UNTIL,
    ChunkStore,
)
from htcgrid_controlplane.errors import DataMissing, SessionClosed, SessionConflict, SessionNotFound, UnknownStore
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import (
    BucketAccount,
    EndReason,
    buckets_in,
    chunks_expected,
    missing_chunks,
    total_of,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.shared_data import DataRow
from htcgrid_controlplane.rules.tiling import Span, fault_in_bucket, fault_within, torn_bucket
from htcgrid_controlplane.services.budgets import Budgets
from htcgrid_controlplane.services.quotas import Quotas
from htcgrid_controlplane.services.shared_data import SharedData
from htcgrid_controlplane.services.stopping import Stops
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.subscribers import SubscriberStore
from htcgrid_events import (
    BUCKET_SIZE,
    MAX_CHUNKS_AHEAD,
    Account,
    AddChunks,
    ChunkInput,
    CreateSession,
    SessionState,
    Stages,
    Totals,
    bucket_of,
)

_MAX_NAMED = 20


@dataclass(frozen=True)
class Submissions:
    """Creates sessions and adds chunks to them."""

    quotas: Quotas
    sessions: SessionStore
    chunks: ChunkStore
    accounts: AccountStore
    subscribers: SubscriberStore
    queues: TaskQueues
    partitions: KnownPartitions
    bus: EventBus
    budgets: Budgets
    stops: Stops
    waker: Waker
    shared_data: SharedData
    clock: Clock
    retention_days: int
    store_names: frozenset[str]
    """In which stores uploaded inputs may lie."""

    def create(self, tenant: str, session_id: str, request: CreateSession) -> Session:
        """Create a session, with its first chunks. Repeating the same request changes nothing.

        Raises:
            SessionConflict: the id is taken by a session with other options, or was used before by anybody; the totals
                contradict the chunks, or the chunks overlap or leave gaps.
            UnknownPartition, PartitionDraining: there is no such partition, or it takes no new sessions.
            UnknownStore: there is no such payload store.
            DataMissing: shared data to which it refers is not there.
            QuotaExceeded, NotAllowed: the tenant may not have so much, or not such options.
        """
        self.partitions.check_open(request.options.partition)
        self._check_stores(request.chunks)
        _check_within(request.chunks, request.totals)
        _check_ahead(request.chunks, len(request.chunks))
        if request.totals:
            _check_whole(request.chunks, request.totals)
        if request.subscriber_id and not self.subscribers.belongs_to(request.subscriber_id, tenant):
            raise SessionConflict(f"Subscriber {request.subscriber_id} is not yours: ask for a push ticket first.")
        wanted = self._new_session(tenant, session_id, request)
        data = self._refer(wanted, request)
        created = self.quotas.create(wanted, request.chunks)
        session = wanted if created else self._same_session(wanted)
        self.bus.put([session.created()])
        preload = [reference for reference in request.preload if reference.sha256 in data]
        self.shared_data.preload(session.options.partition, tenant, preload, data, session.deadline_at)
        return self._add(session, request, counted=created)

    def add(self, tenant: str, session_id: str, request: AddChunks) -> Session:
        """Add chunks to a session, and close it if the request says its totals. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
            SessionClosed: the session is being stopped or has ended, and the request asks for something new.
            SessionConflict: the totals contradict what was submitted, or chunks overlap, leave gaps or are too far
                ahead.
            DataMissing: shared data to which it refers is not there.
            UnknownStore: there is no such payload store.
            QuotaExceeded, NotAllowed: the tenant may not have so much.
        """
        self._check_stores(request.chunks)
        session = self.sessions.read_of(tenant, session_id)
        self._refer(session, request)
        return self._add(session, request)

    def _refer(self, session: Session, request: AddChunks) -> Mapping[str, DataRow]:
        """Keep the shared data that a request names. A request that is repeated asks for nothing new, so it is accepted
        though the data is gone."""
        try:
            return self.shared_data.refer(session.tenant, request.all_data, session.deadline_at)
        except DataMissing:
            if not self._holds_all(session, request.chunks):
                raise
            return {}

    def _holds_all(self, session: Session, chunks: Sequence[ChunkInput]) -> bool:
        """Whether the tenant has this session, and it counts these chunks."""
        try:
            return self._counts(self.sessions.read_of(session.tenant, session.session_id), chunks)
        except SessionNotFound:
            return False

    def _counts(self, session: Session, chunks: Sequence[ChunkInput]) -> bool:
        """Whether the accounts of a session hold these chunks."""
        buckets = sorted({bucket_of(chunk.chunk) for chunk in chunks})
        counted = frozenset[int]().union(*(account.submitted for account in self.accounts.read(session, buckets)))
        return all(chunk.chunk in counted for chunk in chunks)

    def _check_stores(self, chunks: Sequence[ChunkInput]) -> None:
        for store in {chunk.store for chunk in chunks} - self.store_names:
            raise UnknownStore.of(store, self.store_names)

    def _add(self, session: Session, request: AddChunks, *, counted: bool = False) -> Session:
        """`counted` says that the tenant's share was taken for all chunks of the request."""
        if session.stop_reason is not None and request.chunks:
            return self._repeated(session, request)
        totals = request.totals or session.totals
        _check_within(request.chunks, totals)
        seen = {} if counted or not request.chunks else self._count_new(session, request.chunks)
        accounts = self._insert(session, request.chunks, totals, seen) if request.chunks else []
        if request.totals is None:
            return session
        return self._close(session, request.totals, accounts)

    def _repeated(self, session: Session, request: AddChunks) -> Session:
        """Accept what a session holds that takes no more: its client repeats it, since it has not seen the answer."""
        if not self._counts(session, request.chunks):
            raise SessionClosed(f"Session {session.session_id} takes no more chunks: it was stopped.")
        self._check_repeated(session, [_row(session, chunk, session.created_at) for chunk in request.chunks])
        if request.totals not in (None, session.totals):
            raise SessionClosed(f"Session {session.session_id} was stopped before it was closed.")
        return session

    def _count_new(self, session: Session, chunks: Sequence[ChunkInput]) -> dict[int, BucketAccount]:
        """Take the tenant's share of those chunks that the session's accounts do not hold, or of a repetition if they
        hold all, before anything is stored. Gives the accounts."""
        buckets = sorted({bucket_of(chunk.chunk) for chunk in chunks})
        seen = {account.bucket: account for account in self.accounts.read(session, buckets)}
        new = [chunk for chunk in chunks if chunk.chunk not in seen[bucket_of(chunk.chunk)].submitted]
        if session.counted_tasks is None:
            _check_ahead(new, session.buckets * BUCKET_SIZE + len(new))
        else:
            _check_ahead(new, session.counted_chunks + len(new))
        if new and session.counted_tasks is not None:
            self.quotas.add(session, new)
        else:
            self.quotas.repeat(session)
        return seen

    def _insert(
        self,
        session: Session,
        chunks: Sequence[ChunkInput],
        totals: Totals | None,
        seen: Mapping[int, BucketAccount],
    ) -> list[BucketAccount]:
        now = self.clock()
        rows = [_row(session, chunk, now) for chunk in chunks]
        inserted = self.chunks.insert(rows)
        present = [row for row, new in zip(rows, inserted, strict=True) if not new]
        stored = self._check_repeated(session, present)
        if len(stored) < len(present):
            raise SessionConflict.used_id(session.session_id)
        # A session that is paused and resumed while a request is repeated: its rows are to be as they would be now.
        if session.paused:
            self.chunks.pause([row for row in stored if row.waits])
        else:
            self.chunks.resume([row for row in stored if row.state is ChunkState.PAUSED])
        by_bucket: defaultdict[int, list[Span]] = defaultdict(list)
        for chunk in chunks:
            by_bucket[bucket_of(chunk.chunk)].append(_span(chunk))
        if max(by_bucket) >= session.buckets:
            self.sessions.reserve_buckets(session.session_id, max(by_bucket) + 1)
        accounts = [
            self.accounts.add_submitted(
                session,
                bucket,
                spans,
                expected=chunks_expected(totals, bucket) if totals else BUCKET_SIZE,
                seen=seen.get(bucket),
            )
            for bucket, spans in sorted(by_bucket.items())
        ]
        if not session.paused:
            self.queues.send(session, [chunk.chunk for chunk in chunks])
        return accounts

    def _check_repeated(self, session: Session, rows: Sequence[Chunk]) -> list[Chunk]:
        found = []
        for row in rows:
            stored = self.chunks.read(session, row.key.chunk)
            if stored is None:
                continue
            if not row.holds_same_tasks(stored):
                raise SessionConflict(
                    f"Chunk {row.key.chunk} of session {row.key.session_id} was submitted with other tasks: "
                    "a submission may be repeated, but not changed."
                )
            found.append(stored)
        return found

    def _close(self, session: Session, totals: Totals, seen: Sequence[BucketAccount]) -> Session:
        if not _holds(seen, totals):
            seen = self._all_accounts(session, totals)
            if not _holds(seen, totals):
                raise SessionConflict(_contradiction(seen, totals))
        self._check_tiling(session, seen)
        if session.totals is None:
            session = self.sessions.close(session.session_id, totals)
            last = buckets_in(totals) - 1
            account = self.accounts.expect(session, last, chunks_expected(totals, last))
            while account.full and last not in session.full_buckets:
                session = self.sessions.add_full(session, frozenset({last}))
                account = self.accounts.read(session, [last])[0]
        session = self.budgets.judge(session)
        self.waker.wake(session)
        return session

    def _all_accounts(self, session: Session, totals: Totals) -> list[BucketAccount]:
        """The accounts of all buckets that may hold a chunk: however large the totals are, no others are read."""
        buckets = session.buckets
        if buckets < buckets_in(totals):
            buckets = self.sessions.read(session.session_id).buckets
        return self.accounts.read(session, range(buckets))

    def _check_tiling(self, session: Session, accounts: Sequence[BucketAccount]) -> None:
        """Refuse a session whose chunks overlap or leave gaps. No further request could mend that, since chunks do not
        change, so the session is stopped: nothing runs of what has no right result."""
        torn = torn_bucket([account.spans for account in accounts])
        if torn is None:
            return
        bucket, first_task = torn
        rows = self.chunks.rows(session, bucket)
        fault = fault_in_bucket(first_task, (Span(row.key.chunk, row.first_task, row.size) for row in rows))
        self.stops.stop(session.session_id, EndReason.CANCELLED)
        raise SessionConflict(
            f"{fault or f'The chunks of bucket {bucket} do not follow each other.'} "
            f"Session {session.session_id} is cancelled."
        )

    def _new_session(self, tenant: str, session_id: str, request: CreateSession) -> Session:
        now = self.clock()
        deadline_at = now + request.options.session_timeout_seconds * 1000
        return Session(
            session_id=session_id,
            tenant=tenant,
            options=request.options,
            created_at=now,
            deadline_at=deadline_at,
            state=SessionState.RUNNING if request.totals else SessionState.OPEN,
            totals=request.totals,
            buckets=max((bucket_of(chunk.chunk) + 1 for chunk in request.chunks), default=0),
            subscribers=frozenset({request.subscriber_id} if request.subscriber_id else ()),
            expires_at=deadline_at // 1000 + self.retention_days * 86_400,
            counted_tasks=sum(chunk.size for chunk in request.chunks),
            counted_chunks=len(request.chunks),
        )

    def _same_session(self, wanted: Session) -> Session:
        try:
            session = self.sessions.read_of(wanted.tenant, wanted.session_id)
        except SessionNotFound as error:
            raise SessionConflict.used_id(wanted.session_id) from error
        if session.options != wanted.options:
            raise SessionConflict(f"Session {wanted.session_id} exists with other options.")
        if wanted.totals is not None and session.totals not in (None, wanted.totals):
            raise SessionConflict(f"Session {wanted.session_id} was closed with other totals.")
        return session


def _check_whole(chunks: Sequence[ChunkInput], totals: Totals) -> None:
    """A session that is closed as it is created holds what its one request holds, or it would wait for the rest."""
    account = BucketAccount(
        0, Account(submitted=sum(chunk.size for chunk in chunks)), frozenset(chunk.chunk for chunk in chunks)
    )
    if not _holds([account], totals):
        raise SessionConflict(_contradiction([account], totals))


def _holds(accounts: Sequence[BucketAccount], totals: Totals) -> bool:
    submitted = sum(len(account.submitted) for account in accounts)
    return (
        submitted == totals.chunks
        and total_of(accounts).submitted == totals.tasks
        and not missing_chunks(accounts, totals, 0)[0]
    )


def _contradiction(accounts: Sequence[BucketAccount], totals: Totals) -> str:
    missing, first = missing_chunks(accounts, totals, _MAX_NAMED)
    if missing:
        named = ", ".join(map(str, first))
        return f"{missing} of {totals.chunks} chunks were not submitted, such as {named}."
    if (submitted := sum(len(account.submitted) for account in accounts)) != totals.chunks:
        return f"There are {submitted} chunks, not {totals.chunks}."
    return f"The chunks hold {total_of(accounts).submitted} tasks, not {totals.tasks}."


def _check_within(chunks: Sequence[ChunkInput], totals: Totals | None) -> None:
    if chunks and (fault := fault_within(map(_span, chunks), totals)):
        raise SessionConflict(fault)


def _check_ahead(chunks: Sequence[ChunkInput], held: int) -> None:
    """Refuse chunks far beyond those that a session holds, which would leave holes that every reader walks over."""
    beyond = held + MAX_CHUNKS_AHEAD
    if chunks and (last := max(chunk.chunk for chunk in chunks)) >= beyond:
        raise SessionConflict(
            f"Chunk {last} is too far ahead: with this request the session holds {held} chunks, so it takes numbers "
            f"below {beyond}. Submit chunks in the order of their numbers."
        )


def _span(chunk: ChunkInput) -> Span:
    return Span(chunk.chunk, chunk.first_task, chunk.size)


def _row(session: Session, chunk: ChunkInput, now: int) -> Chunk:
    return Chunk(
        key=ChunkKey(session.session_id, chunk.chunk),
        tenant=session.tenant,
        state=ChunkState.PAUSED if session.paused else ChunkState.QUEUED,
        claimable_at=PAUSED_UNTIL if session.paused else 0,
        first_task=chunk.first_task,
        size=chunk.size,
        attempt=0,
        inputs=_inputs(chunk),
        outcomes="",
        stages=Stages(submitted_at=now),
        expires_at=session.expires_at,
    )


def _inputs(chunk: ChunkInput) -> Payload:
    return Payload(chunk.inputs) if chunk.stored_bytes is None else Payload(None, chunk.stored_bytes, chunk.store)
