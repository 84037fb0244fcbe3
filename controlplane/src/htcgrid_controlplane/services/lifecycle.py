"""The steps of the session lifecycle workflow that need more than one service call. Each may be repeated."""

from collections.abc import Sequence
from dataclasses import dataclass

from htcgrid_chunks.clock import Clock
from htcgrid_chunks.store import (
    ACCOUNT_ROW,
    ChunkStore,
)
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.outbound.announcements import Announcements
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import (
    EndReason,
    digests_of,
    total_of,
    verdict_of,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.stopping import Stops
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.tenants import TenantStore
from htcgrid_events import (
    CancelledSessions,
    ChunkOutcome,
    SessionState,
)

BUCKETS_PER_STEP = 32
"""Buckets (of up to 128 chunks each) that one settling step goes through: some seconds of work, far from any limit."""

MAX_CANCELLED = 100
"""Sessions that one request stops: five requests to AWS each, within the API's 29 s with a wide margin."""

_TRIES = 5


@dataclass(frozen=True)
class Lifecycle:
    """What the workflow asks of the control plane between a session's creation and its end."""

    sessions: SessionStore
    chunks: ChunkStore
    accounts: AccountStore
    tenants: TenantStore
    announcements: Announcements
    stops: Stops
    waker: Waker
    clock: Clock

    def wait(self, session_id: str, task_token: str) -> None:
        """Keep the token that wakes the workflow, and wake it at once if the session has come to its end already."""
        self.waker.wake(self.sessions.store_token(session_id, task_token))

    def cancel(self, tenant: str, session_id: str) -> Session:
        """Stop a session at its owner's wish. Repeating it, or cancelling an ended session, changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        self.sessions.read_of(tenant, session_id)
        return self.stops.stop(session_id, EndReason.CANCELLED)

    def cancel_many(self, tenant: str, session_ids: Sequence[str] | None) -> CancelledSessions:
        """Stop these sessions of a tenant, or, where none is named, up to `MAX_CANCELLED` that run on."""
        if session_ids is None:
            session_ids = self._running_on(tenant)
        stopping, ended, unknown = list[str](), list[str](), list[str]()
        for session_id in session_ids:
            try:
                session = self.cancel(tenant, session_id)
            except SessionNotFound:
                unknown.append(session_id)
            else:
                (ended if session.state.ended else stopping).append(session_id)
        return CancelledSessions(stopping=tuple(stopping), ended=tuple(ended), unknown=tuple(unknown))

    def _running_on(self, tenant: str) -> list[str]:
        found: list[str] = []
        for state in (SessionState.OPEN, SessionState.RUNNING):
            before: str | None = None
            while len(found) < MAX_CANCELLED:
                page, before = self.sessions.of_tenant(tenant, state, before, MAX_CANCELLED)
                found += [listed.summary.session_id for listed in page if not listed.stopping]
                if before is None:
                    break
        return found[:MAX_CANCELLED]

    def settle(self, session_id: str, reason: EndReason, first_bucket: int) -> int | None:
        """Cancel the open tasks of some buckets and count what is not counted yet.

        Gives the bucket with which the next step goes on, or none when all are settled. An agent that still runs one
        of these tasks finds its chunk gone at its next heartbeat, and can no longer finish it.
        """
        session = self.sessions.stop(session_id, reason) if first_bucket else self.stops.stop(session_id, reason)
        beyond = min(first_bucket + BUCKETS_PER_STEP, session.buckets)
        for bucket in range(first_bucket, beyond):
            self._settle_bucket(session, bucket)
        return beyond if beyond < session.buckets else None

    def end(self, session_id: str, reason: EndReason) -> Session:
        """Write the verdict and the account, once. A session that is said to be done, and of which a task was redriven
        since, goes on without a verdict.

        Raises:
            AccountOpen: submitted differs from completed + failed + cancelled; nothing was written.
        """
        session = self.sessions.read(session_id)
        for _ in range(_TRIES):
            if session.state.ended or (reason is EndReason.DONE and session.redrives and not session.all_finished):
                break
            accounts = self.accounts.read(session, range(session.buckets))
            account = total_of(accounts)
            verdict = verdict_of(reason, account, session.totals)
            # The tenant gets back what the session took in the same transaction: once, whoever repeats this.
            counted = session.counted_tasks
            giving_back = None if counted is None else self.tenants.given_back(session.tenant, counted)
            session = self.sessions.end(
                session, verdict, account, self.clock(), digests_of(accounts), giving_back=giving_back
            )
            if session.counted_tasks == counted:
                break
        return session

    def announce(self, session_id: str) -> None:
        """Announce a session's verdict. Announce nothing if a task was redriven since: another verdict will follow.

        Raises:
            AccountOpen: the session has no verdict yet.
        """
        session = self.sessions.read(session_id)
        if session.redrives and not session.state.ended:
            return
        self.announcements.verdict(session)

    def _settle_bucket(self, session: Session, bucket: int) -> None:
        account = self.accounts.read(session, [bucket])[0]
        outcomes: list[ChunkOutcome] = []
        after: int | None = ACCOUNT_ROW
        while after is not None:
            # A row that changed between reading and cancelling is read again with its page.
            page, following = self.chunks.bucket(session, bucket, after)
            rows = [chunk for chunk in page if chunk.key.chunk in account.submitted]
            still_open = [chunk for chunk in rows if not chunk.finished]
            if still_open:
                self.chunks.cancel(still_open, self.clock())
                continue
            outcomes += [chunk.outcome() for chunk in rows if chunk.key.chunk not in account.finished]
            after = following
        if outcomes:
            self.accounts.record(session, bucket, outcomes, self.clock())
