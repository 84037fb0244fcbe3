"""Reads sessions and tasks on behalf of their owner."""

from collections.abc import Sequence
from dataclasses import dataclass

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import SessionConflict, TaskNotFound
from htcgrid_controlplane.rules.accounting import BucketAccount, digests_of, total_of
from htcgrid_controlplane.rules.letters import error_of
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.links import Links
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.batch_get import MAX_KEYS
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.subscribers import SubscriberStore
from htcgrid_dataplane import (
    PayloadCorrupt,
    PayloadMissing,
    input_key,
    pick_lines,
    result_key,
)
from htcgrid_dataplane.stores import Stores
from htcgrid_events import (
    MAX_TASKS_PER_CHUNK,
    ChunkOutcome,
    ChunkPage,
    ChunkRecord,
    OutcomeCode,
    OutcomePage,
    PartialOutcome,
    SessionPage,
    SessionState,
    SessionStatus,
    TaskError,
    TaskInput,
    TaskRecord,
    TaskState,
    bucket_of,
    task_id,
)

_PAGE_SESSIONS = 100
_PAGE_BYTES = 3 * 1024 * 1024
"""Inline results in one page: in base64 below the 6 MB of a Lambda function's answer."""


@dataclass(frozen=True)
class Queries:
    """Reads on behalf of a tenant."""

    sessions: SessionStore
    chunks: ChunkStore
    accounts: AccountStore
    subscribers: SubscriberStore
    stores: Stores
    links: Links

    def status(self, session: Session) -> SessionStatus:
        """A session with its account as it is now."""
        accounts = [] if session.account else self.accounts.read(session, range(session.buckets))
        chunks = session.totals.chunks if session.totals else sum(len(account.submitted) for account in accounts)
        return session.status(total_of(accounts), chunks, digests_of(accounts))

    def session(self, tenant: str, session_id: str) -> Session:
        """A session of the tenant.

        Raises:
            SessionNotFound: there is none with this id, or it is another's.
        """
        return self.sessions.read_of(tenant, session_id)

    def follow(self, tenant: str, session_id: str, subscriber_id: str) -> Session:
        """Let a push connection of the tenant follow its session.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
            SessionConflict: the subscriber is another's, or the session has too many.
        """
        self.session(tenant, session_id)
        if not self.subscribers.belongs_to(subscriber_id, tenant):
            raise SessionConflict(f"Subscriber {subscriber_id} is not yours: ask for a push ticket first.")
        return self.sessions.subscribe(session_id, subscriber_id)

    def sessions_of(self, tenant: str, state: SessionState | None, before: str | None) -> SessionPage:
        """Sessions of the tenant, newest first. A page may be empty although others follow."""
        listed, following = self.sessions.of_tenant(tenant, state, before, _PAGE_SESSIONS)
        return SessionPage(sessions=tuple(each.summary for each in listed), next_before=following)

    def chunk_page(self, tenant: str, session_id: str, bucket: int, after: int) -> ChunkPage:
        """Submitted chunks of a bucket behind chunk `after`, as they are now.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        session = self.session(tenant, session_id)
        account = self.accounts.read(session, [bucket])[0]
        rows, following = self.chunks.bucket(session, bucket, after)
        records = (
            _record(chunk, account.finished.get(chunk.key.chunk, 0))
            for chunk in rows
            if chunk.key.chunk in account.submitted
        )
        return ChunkPage(chunks=tuple(records), next_after=following)

    def outcomes(self, tenant: str, session_id: str, bucket: int, after: int) -> OutcomePage:
        """Chunks of a bucket behind chunk `after` that have finished, or of which tasks are final, with small results
        inside and links to large ones.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        session = self.session(tenant, session_id)
        account = self.accounts.read(session, [bucket])[0]
        rows, following = self.chunks.bucket(session, bucket, after)
        told = [chunk for chunk in rows if chunk.key.chunk in account.submitted and chunk.partly_final]
        finished: list[ChunkOutcome] = []
        partial: list[PartialOutcome] = []
        room, last = _PAGE_BYTES, None
        for chunk in told:
            room -= len(chunk.results.data or b"")
            if room < 0 and last is not None:
                following = last
                break
            last = chunk.key.chunk
            if chunk.finished and last in account.finished:
                finished.append(chunk.outcome(account.finished[last], self._link(chunk)))
            else:
                partial.append(chunk.partial_outcome(url=self._link(chunk)))
        return OutcomePage(outcomes=tuple(finished), partial=tuple(partial), next_after=following)

    def task(self, tenant: str, session_id: str, index: int) -> TaskRecord:
        """The record of one task.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
            TaskNotFound: it has no task with this index.
        """
        session = self.session(tenant, session_id)
        chunk = self._chunk_of(session, index)
        offset = index - chunk.first_task
        error = self._error(chunk, offset)
        notified = self.accounts.read(session, [bucket_of(chunk.key.chunk)])[0].finished
        return TaskRecord(
            session_id=session_id,
            task_id=task_id(session_id, index),
            index=index,
            state=chunk.task_state(offset),
            chunk=chunk.key.chunk,
            owner=chunk.owner or None,
            attempt=chunk.attempt,
            attempts=_attempts(chunk, offset, error),
            retries=min(chunk.tries.get(offset, 0), session.options.max_retries),
            options=session.options,
            message_handle=chunk.message_id or None,
            lease_expires_at=chunk.lease_expires_at,
            stages=chunk.stages.model_copy(update={"notified_at": notified.get(chunk.key.chunk, 0)}),
            error=error,
            function_digests=chunk.function_digests,
            history=chunk.history.get(offset, ()),
        )

    def task_input(self, tenant: str, session_id: str, index: int) -> TaskInput:
        """What a task was given. Raises as `task` does."""
        chunk = self._chunk_of(self.session(tenant, session_id), index)
        stored = chunk.inputs.stored_bytes
        key = input_key(chunk.tenant, session_id, chunk.key.chunk, chunk.inputs_edition)
        return TaskInput(
            index=index,
            line=index - chunk.first_task,
            lines=chunk.size,
            inputs=chunk.inputs.data,
            url=self.links.download(tenant, key, chunk.inputs.store, stored) if stored else None,
        )

    def _chunk_of(self, session: Session, index: int) -> Chunk:
        """The chunk that holds a task. First tasks grow with chunk numbers, so its bucket and then the chunk in it are
        found by halving: no index, and some reads however large the session is."""
        bucket = self._bucket_of(session, index)
        submitted = sorted(bucket.submitted) if bucket else []
        low, high = 0, len(submitted)
        while low < high:
            middle = (low + high) // 2
            chunk = self._row(session, submitted[middle])
            if index < chunk.first_task:
                high = middle
            elif index >= chunk.first_task + chunk.size:
                low = middle + 1
            else:
                return chunk
        raise TaskNotFound(f"Session {session.session_id} has no task {index}.")

    def _bucket_of(self, session: Session, index: int) -> BucketAccount | None:
        """The last bucket of which the first chunk does not begin behind a task."""
        # A chunk holds 1 to MAX_TASKS_PER_CHUNK tasks, so the chunk of a task is not before and not behind these.
        low = bucket_of(index // MAX_TASKS_PER_CHUNK)
        high = min(session.buckets, bucket_of(index) + 1)
        found: BucketAccount | None = None
        while low < high:
            middle = (low + high) // 2
            account = self._last_with_chunks(session, low, middle)
            if account is None:
                low = middle + 1
            elif index < self._row(session, min(account.submitted)).first_task:
                high = account.bucket
            else:
                found, low = account, middle + 1
        return found

    def _last_with_chunks(self, session: Session, first: int, last: int) -> BucketAccount | None:
        """Of these buckets the last that has chunks. In a session that is being submitted some may have none yet."""
        beyond, many = last + 1, 1
        while beyond > first:
            accounts: Sequence[BucketAccount] = self.accounts.read(session, range(max(first, beyond - many), beyond))
            if with_chunks := [account for account in accounts if account.submitted]:
                return with_chunks[-1]
            beyond, many = accounts[0].bucket, MAX_KEYS
        return None

    def _row(self, session: Session, chunk: int) -> Chunk:
        row = self.chunks.read(session, chunk)
        if row is None:
            raise SessionConflict(f"Chunk {chunk} of session {session.session_id} has no row any more.")
        return row

    def _link(self, chunk: Chunk) -> str | None:
        results = chunk.results
        if results.stored_bytes is None:
            return None
        return self.links.download(chunk.tenant, _results_of(chunk), results.store, results.stored_bytes)

    def _error(self, chunk: Chunk, offset: int) -> TaskError | None:
        if chunk.outcomes[offset] != OutcomeCode.FAILED.value:
            return None
        try:
            parts = chunk.results.parts(self.stores, _results_of(chunk))
            return error_of(chunk, offset, pick_lines(parts, chunk.size, [offset])[offset])
        except (PayloadMissing, PayloadCorrupt):
            return error_of(chunk, offset, b"")


def _record(chunk: Chunk, notified_at: int) -> ChunkRecord:
    return ChunkRecord(
        chunk=chunk.key.chunk,
        first_task=chunk.first_task,
        size=chunk.size,
        state=chunk.state_of_open_tasks,
        outcomes=chunk.outcomes,
        attempt=chunk.attempt,
        owner=chunk.owner or None,
        claimable_at=0 if chunk.state is ChunkState.PAUSED else chunk.claimable_at,
        stages=chunk.stages.model_copy(update={"notified_at": notified_at}),
    )


def _attempts(chunk: Chunk, offset: int, error: TaskError | None) -> int:
    """How often a task was tried: the tries that failed, and the one that completed it or runs now."""
    if error is not None:
        return error.attempts
    succeeded = chunk.task_state(offset) in (TaskState.COMPLETED, TaskState.RUNNING)
    return chunk.tries.get(offset, 0) + succeeded


def _results_of(chunk: Chunk) -> str:
    return result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.results_attempt)
