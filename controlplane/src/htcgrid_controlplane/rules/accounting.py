"""The account of a session and the verdict that follows from it: pure rules."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from htcgrid_controlplane.errors import AccountOpen
from htcgrid_controlplane.rules.tiling import BucketSpans
from htcgrid_events import BUCKET_SIZE, Account, ChunkOutcome, SessionState, Totals


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
    reopened: Mapping[int, int] = field(default_factory=dict)
    """Chunk number to the last attempt before its redrive: outcomes up to it count no more."""
    redrives: int = 0
    """How often a chunk of the bucket was reopened."""
    edges: int | None = 0
    """The sum over the edges of its chunks, see `rules/tiling.py`; none if an earlier release began the bucket."""
    function_digests: frozenset[str] = frozenset()
    """The versions of the function that the tasks of its finished chunks ran on."""
    expected: int = BUCKET_SIZE
    """Chunks that the bucket will hold once the session is closed; only the last bucket holds fewer than its size."""

    def awaits(self, outcome: ChunkOutcome) -> bool:
        """Whether an outcome is to be counted: the first of a chunk that was submitted, or the first after its last
        redrive."""
        return outcome.chunk in self.submitted and outcome.chunk not in self.finished and not self.outdates(outcome)

    def outdates(self, outcome: ChunkOutcome) -> bool:
        """Whether tasks of the chunk were redriven after this outcome, which is then to be forgotten."""
        return outcome.attempt <= self.reopened.get(outcome.chunk, -1)

    @property
    def spans(self) -> BucketSpans:
        """What it knows of the places of its chunks."""
        return BucketSpans(self.bucket, len(self.submitted), self.tasks.submitted, self.edges)

    @property
    def full(self) -> bool:
        """Whether every chunk that the bucket will ever hold has finished."""
        return len(self.finished) == self.expected


def latest(outcomes: Iterable[ChunkOutcome]) -> dict[int, ChunkOutcome]:
    """The outcome of the highest attempt at each chunk."""
    return {outcome.chunk: outcome for outcome in sorted(outcomes, key=lambda outcome: outcome.attempt)}


def buckets_in(totals: Totals) -> int:
    """How many buckets a session of this size has."""
    return -(-totals.chunks // BUCKET_SIZE)


def chunks_expected(totals: Totals, bucket: int) -> int:
    """How many chunks this bucket of a closed session holds."""
    return min(BUCKET_SIZE, totals.chunks - bucket * BUCKET_SIZE)


def missing_chunks(accounts: Iterable[BucketAccount], totals: Totals, most: int) -> tuple[int, list[int]]:
    """How many chunk numbers below `totals.chunks` were not submitted, and the first of them, `most` at most. It walks
    over what was submitted, not over all that the totals say."""
    submitted = frozenset[int]().union(*(account.submitted for account in accounts))
    missing = totals.chunks - sum(chunk < totals.chunks for chunk in submitted)
    if not missing:
        return 0, []
    return missing, list(islice((chunk for chunk in range(totals.chunks) if chunk not in submitted), most))


def total_of(accounts: Iterable[BucketAccount]) -> Account:
    """The account of the whole session."""
    parts = [account.tasks for account in accounts]
    return Account(
        submitted=sum(part.submitted for part in parts),
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
        cancelled=sum(part.cancelled for part in parts),
    )


def digests_of(accounts: Iterable[BucketAccount]) -> tuple[str, ...]:
    """The versions of the function that the finished tasks of a session ran on, in the order of the alphabet."""
    return tuple(sorted(frozenset[str]().union(*(account.function_digests for account in accounts))))


def verdict_of(reason: EndReason, account: Account, totals: Totals | None) -> SessionState:
    """The verdict of a session. One that was told to stop but had already run to its end is judged by its tasks. So is
    one that was stopped, had tasks redriven, and is done with them: those that were cancelled then stay so.

    Raises:
        AccountOpen: submitted differs from completed + failed + cancelled, or from the size the client declared.
    """
    if not account.closes:
        raise AccountOpen(
            f"the account does not close: {account.submitted} submitted, {account.completed} completed, "
            f"{account.failed} failed, {account.cancelled} cancelled"
        )
    whole = totals is not None and account.submitted == totals.tasks
    if whole and account.cancelled == 0:
        return SessionState.FAILED if account.failed else SessionState.COMPLETED
    if reason is not EndReason.DONE:
        return _VERDICT_OF_STOP[reason]
    if not whole:
        raise AccountOpen(f"the session is said to be done, but its account is {account} of {totals}")
    return SessionState.FAILED if account.failed else SessionState.CANCELLED


_VERDICT_OF_STOP = {
    EndReason.CANCELLED: SessionState.CANCELLED,
    EndReason.TIMED_OUT: SessionState.TIMED_OUT,
    EndReason.FAILURES: SessionState.FAILED,
}
