"""Redrives dead letters: runs their tasks again, in a session that reopens if it has ended.

For each chunk, in this order: one transaction reopens session, account and row together; the event that starts the
session's lifecycle anew; the message; the letters. Whoever repeats a request that died in between finds the row
reopened, goes on from there, and does nothing wrong by what is done twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from htcgrid_chunks.chunk import (
    Chunk,
    Payload,
)
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import (
    SessionClosed,
    SessionConflict,
)
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.accounting import (
    missing_chunks,
    total_of,
)
from htcgrid_controlplane.rules.letters import (
    chosen,
    history_of,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.tiling import torn_bucket
from htcgrid_controlplane.services.dead_letters import DeadLetters
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.dead_letters import ChunkLetters
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_controlplane.storage.redrive import (
    Redrive,
    Redriven,
    RedriveStore,
    Reopening,
)
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_dataplane import (
    PayloadCorrupt,
    PayloadMissing,
    PayloadTooLarge,
    encode_lines,
    input_key,
    iterate_lines,
)
from htcgrid_dataplane.stores import Stores
from htcgrid_events import INLINE_BYTES, DeadLettersDone, OutcomeCode, RedriveTasks, Totals, new_id

_SPARE_SECONDS = 3_600
"""A reopened session ends so long before its rows may be forgotten: they keep their day, since moving it would mean to
rewrite each of them."""
_LONG_ENOUGH_MS = 8_000
"""After so long a request begins with no other chunk: its answer is due within 29 s, however slow things are."""
_TRIES = 5


@dataclass
class _Run:
    """What one request has come to."""

    session: Session
    tasks: int = 0
    busy: int = 0
    reopening: Reopening | None = None


@dataclass(frozen=True)
class Redrives:
    """Lets tasks that failed for good run again."""

    sessions: SessionStore
    letters: DeadLetters
    chunks: ChunkStore
    accounts: AccountStore
    store: RedriveStore
    stores: Stores
    queues: TaskQueues
    partitions: KnownPartitions
    bus: EventBus
    clock: Clock

    def redrive(self, tenant: str, session_id: str, request: RedriveTasks) -> DeadLettersDone:
        """Run tasks again, as far as one request goes. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
            SessionClosed: the session is being stopped: it can be redriven when it has its verdict.
            SessionConflict: the session's rows are about to expire, it was stopped before all of its chunks were
                submitted, or the events that are to be replaced are gone.
            UnknownPartition, PartitionDraining: its partition was removed, or is being removed.
            QuotaExceeded, NotAllowed: the tenant may not have the session open again.
        """
        run = _Run(self.sessions.read_of(tenant, session_id))
        if run.session.state.ended:
            self.partitions.check_open(run.session.options.partition)
        self._see_that_it_is_watched(run.session)
        found, (bucket, after) = self.letters.walk(run.session, request.bucket, request.after)
        enough_at = self.clock() + _LONG_ENOUGH_MS
        for letters in found:
            self._redrive_chunk(run, letters, request)
            if self.clock() >= enough_at and letters is not found[-1]:
                bucket, after = letters.key.bucket, letters.key.chunk
                break
        return DeadLettersDone(tasks=run.tasks, busy=run.busy, next_bucket=bucket, next_after=after)

    def _redrive_chunk(self, run: _Run, letters: ChunkLetters, request: RedriveTasks) -> None:
        wanted = chosen(letters.letters, request.fingerprint, request.tasks)
        for _ in range(_TRIES):
            row = self.chunks.read(run.session, letters.key.chunk)
            if row is None or not wanted:
                return
            failed = wanted & row.failed_tasks
            if not (row.finished and failed):
                # Either a former request came as far as the row, or other tasks of the chunk are being run.
                run.busy += len(failed)
                self._send_and_forget(run.session, letters, row, wanted - failed)
                return
            answer = self.store.write(self._planned(run, row, failed, request.events))
            if answer is Redriven.DONE:
                run.tasks += len(failed)
                if run.session.state.ended:
                    run.session = self.sessions.read(run.session.session_id)
                    self._see_that_it_is_watched(run.session)
                self._send_and_forget(run.session, letters, self.chunks.read(run.session, letters.key.chunk), failed)
                return
            if answer is Redriven.NOT_COUNTED:
                run.busy += len(failed)
                return
            run.session = self.sessions.read(run.session.session_id)
        raise StorageUnavailable(f"chunk {letters.key.chunk} of session {letters.key.session_id} keeps changing")

    def _planned(self, run: _Run, row: Chunk, failed: frozenset[int], events: Mapping[int, str]) -> Redrive:
        session = run.session
        if session.stop_reason is not None and not session.state.ended:
            raise SessionClosed(f"Session {session.session_id} is being stopped: redrive it when it has its verdict.")
        if session.state.ended and run.reopening is None:
            run.reopening = self._reopening(session)
        edited = {index: event for index, event in events.items() if index in failed}
        edition = new_id()
        offsets = {index - row.first_task for index in failed}
        return Redrive(
            session=session,
            chunk=row,
            outcomes="".join(
                OutcomeCode.OPEN if offset in offsets else code for offset, code in enumerate(row.outcomes)
            ),
            now=self.clock(),
            reopening=run.reopening if session.state.ended else None,
            history=history_of(row, self.letters.lines(row, offsets), offsets),
            inputs=self._inputs(row, edited, edition) if edited else None,
            inputs_edition=edition,
        )

    def _reopening(self, session: Session) -> Reopening:
        now = self.clock()
        last = (session.expires_at - _SPARE_SECONDS) * 1000
        if last <= now:
            raise SessionConflict(f"Session {session.session_id} is about to be forgotten: submit its tasks anew.")
        deadline_at = min(now + session.options.session_timeout_seconds * 1000, last)
        failed = session.account.failed if session.account else 0
        return Reopening(deadline_at, self._totals(session), failed)

    def _totals(self, session: Session) -> Totals:
        """What a session holds that takes no further chunks. One that was stopped while it was being submitted holds
        what had come by then; without a gap, or nobody could tell when it is done."""
        if session.totals is not None and session.account and session.account.submitted == session.totals.tasks:
            return session.totals
        accounts = self.accounts.read(session, range(session.buckets))
        totals = Totals(chunks=sum(len(account.submitted) for account in accounts), tasks=total_of(accounts).submitted)
        if missing_chunks(accounts, totals, 0)[0]:
            raise SessionConflict(
                f"Session {session.session_id} was stopped while it was being submitted, and lacks chunks: "
                "submit its tasks anew."
            )
        if torn_bucket([account.spans for account in accounts]):
            raise SessionConflict(
                f"The chunks of session {session.session_id} overlap or leave gaps: submit its tasks anew."
            )
        last = session.buckets - 1
        self.accounts.expect(session, last, len(accounts[last].submitted))
        return totals

    def _inputs(self, row: Chunk, edited: Mapping[int, str], edition: str) -> Payload:
        key = input_key(row.tenant, row.key.session_id, row.key.chunk, row.inputs_edition)
        # Between the tokens of valid JSON, and only there, a newline may become a space.
        changed = {index - row.first_task: event.replace("\n", " ").encode() for index, event in edited.items()}
        try:
            lines = iterate_lines(row.inputs.parts(self.stores, key), row.size)
            data = encode_lines(changed.get(offset, line) for offset, line in enumerate(lines))
        except (PayloadMissing, PayloadCorrupt, PayloadTooLarge) as error:
            raise SessionConflict(
                f"The events of chunk {row.key.chunk} cannot be read or replaced: {error}."
            ) from error
        if len(data) <= INLINE_BYTES:
            return Payload(data)
        self.stores.current.put(input_key(row.tenant, row.key.session_id, row.key.chunk, edition), data)
        return Payload(stored_bytes=len(data), store=self.stores.noted)

    def _see_that_it_is_watched(self, session: Session) -> None:
        """Have a lifecycle started for a session that was reopened and has none yet. It may be asked for twice."""
        if session.redrives and not session.watched and not session.state.ended:
            self.bus.put([session.reopened()])

    def _send_and_forget(
        self, session: Session, letters: ChunkLetters, row: Chunk | None, tasks: frozenset[int]
    ) -> None:
        if not tasks:
            return
        if row is not None and row.waits:
            self.queues.send(session, [row.key.chunk])
        self.letters.forget(session, letters, tasks)
