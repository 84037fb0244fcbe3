"""The account of a session and the verdict that follows from it: pure rules."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from htcgrid_controlplane.errors import AccountOpen
from htcgrid_events import BUCKET_SIZE, Account, SessionState, Totals


class EndReason(StrEnum):
    """Why the lifecycle of a session goes on to its end."""

    DONE = "done"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    FAILURES = "failures"


@dataclass(frozen=True)
class BucketAccount:
    """What is counted of one bucket: the chunks that were submitted, and those that finished, each exactly once."""

    bucket: int
    tasks: Account = field(default_factory=Account)
    submitted: frozenset[int] = frozenset()
    finished: dict[int, int] = field(default_factory=dict)
    """Chunk number to the moment (ms) at which its outcome was counted and subscribers were notified."""
    expected: int = BUCKET_SIZE
    """Chunks that the bucket will hold once the session is closed; only the last bucket holds fewer than its size."""

    @property
    def full(self) -> bool:
        """Whether every chunk that the bucket will ever hold has finished."""
        return len(self.finished) == self.expected


def buckets_in(totals: Totals) -> int:
    """How many buckets a session of this size has."""
    return -(-totals.chunks // BUCKET_SIZE)


def chunks_expected(totals: Totals, bucket: int) -> int:
    """How many chunks this bucket of a closed session holds."""
    return min(BUCKET_SIZE, totals.chunks - bucket * BUCKET_SIZE)


def missing_chunks(accounts: Iterable[BucketAccount], totals: Totals) -> list[int]:
    """The chunk numbers below `totals.chunks` that were not submitted, in order."""
    submitted = frozenset[int]().union(*(account.submitted for account in accounts))
    return [chunk for chunk in range(totals.chunks) if chunk not in submitted]


def total_of(accounts: Iterable[BucketAccount]) -> Account:
    """The account of the whole session."""
    parts = [account.tasks for account in accounts]
    return Account(
        submitted=sum(part.submitted for part in parts),
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
        cancelled=sum(part.cancelled for part in parts),
    )


def verdict_of(reason: EndReason, account: Account, totals: Totals | None) -> SessionState:
    """The verdict of a session. One that was told to stop but had already run to its end is judged by its tasks.

    Raises:
        AccountOpen: submitted differs from completed + failed + cancelled, or from the size the client declared.
    """
    if not account.closes:
        raise AccountOpen(
            f"the account does not close: {account.submitted} submitted, {account.completed} completed, "
            f"{account.failed} failed, {account.cancelled} cancelled"
        )
    ran_to_its_end = totals is not None and account.submitted == totals.tasks and account.cancelled == 0
    if ran_to_its_end:
        return SessionState.FAILED if account.failed else SessionState.COMPLETED
    if reason is EndReason.DONE:
        raise AccountOpen(f"the session is said to be done, but its account is {account} of {totals}")
    return _VERDICT_OF_STOP[reason]


_VERDICT_OF_STOP = {
    EndReason.CANCELLED: SessionState.CANCELLED,
    EndReason.TIMED_OUT: SessionState.TIMED_OUT,
    EndReason.FAILURES: SessionState.FAILED,
}
