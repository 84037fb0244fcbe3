"""Failure budgets: a session may say after how many failed tasks it stops.

The count is kept in the session's row, and only where there is a budget. It moves with chunks that are counted for the
first time; when an event comes again, the failures may have been left out by a crash in between, so they are counted
anew from the accounts. Whoever counts anew may count what another is about to add, so the count may be too high for a
while: before a session is stopped, the accounts have the last word.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from htcgrid_controlplane.rules.accounting import (
    EndReason,
    total_of,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.stopping import Stops
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import ChunkOutcome, OutcomeCode


@dataclass(frozen=True)
class Budgets:
    """Counts failures against the budgets of sessions, and stops those that have used them up."""

    sessions: SessionStore
    accounts: AccountStore
    stops: Stops

    def spend(self, session: Session, outcomes: Iterable[ChunkOutcome], counted: frozenset[int]) -> Session:
        """Count the failures among outcomes; `counted` are the chunks that were counted for the first time."""
        if not session.options.has_budget:
            return session
        failing = {outcome.chunk: outcome.count(OutcomeCode.FAILED) for outcome in outcomes}
        failing = {chunk: failed for chunk, failed in failing.items() if failed}
        if not failing:
            return session
        if failing.keys() <= counted:
            session = self.sessions.add_failures(session.session_id, sum(failing.values()))
        else:
            session = self.sessions.correct_failures(session.session_id, self._failed(session))
        return self.judge(session)

    def judge(self, session: Session) -> Session:
        """Stop a session that is over its budget."""
        if session.end_reason is not None or not session.over_budget:
            return session
        if not replace(session, failures=self._failed(session)).over_budget:
            return session
        return self.stops.stop(session.session_id, EndReason.FAILURES)

    def _failed(self, session: Session) -> int:
        return total_of(self.accounts.read(session, range(session.buckets))).failed
