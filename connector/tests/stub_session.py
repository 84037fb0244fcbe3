"""A session of a stub grid, and the contracts that tell of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from htcgrid_dataplane import decode_lines
from htcgrid_events import (
    BUCKET_SIZE,
    Account,
    ChunkInput,
    ChunkOutcome,
    ChunkRecord,
    DeadLetter,
    FailureKind,
    OutcomePage,
    PartialOutcome,
    SessionOptions,
    SessionState,
    SessionStatus,
    SessionSummary,
    Stages,
    StopReason,
    TaskError,
    TaskRecord,
    TaskState,
    Totals,
)

FINGERPRINT = "0123456789abcdef"
"""Of every failure on a stub grid."""


@dataclass
class StubSession:
    session_id: str
    options: SessionOptions
    created_at: int = 1
    chunks: dict[int, ChunkInput] = field(default_factory=dict)
    outcomes: dict[int, ChunkOutcome] = field(default_factory=dict)
    partial: dict[int, PartialOutcome] = field(default_factory=dict)
    """Of chunks of which tasks are run again, or were."""
    totals: Totals | None = None
    subscribers: set[str] = field(default_factory=set)
    stop_reason: StopReason | None = None
    paused: bool = False
    function_digests: tuple[str, ...] = ()
    state: SessionState = SessionState.OPEN
    events: dict[int, str] = field(default_factory=dict)
    """JSON texts with which tasks run instead of their own."""
    running: set[int] = field(default_factory=set)
    """Chunks that an agent holds."""
    purged: set[int] = field(default_factory=set)
    """Chunks whose letters were forgotten."""
    text: str = ""
    """Added to every text that an agent or a handler chose."""

    @property
    def cancelled(self) -> bool:
        return self.stop_reason is not None

    @property
    def listed(self) -> str:
        """What orders it among others."""
        return f"{self.created_at:013d}-{self.session_id}"

    def account(self) -> Account:
        codes = Counter("".join(outcome.outcomes for outcome in self.outcomes.values()))
        submitted = sum(chunk.size for chunk in self.chunks.values())
        ended_early = self.state.ended and self.stop_reason is not None
        never_run = submitted - codes.total() if ended_early else 0
        return Account(submitted=submitted, completed=codes["C"], failed=codes["F"], cancelled=codes["X"] + never_run)

    def cancel(self, reason: StopReason = StopReason.CANCELLED) -> None:
        self.stop_reason = reason
        self.totals = Totals(chunks=max(1, len(self.chunks)), tasks=1)

    def status(self) -> SessionStatus:
        return SessionStatus(
            session_id=self.session_id,
            state=self.state,
            options=self.options,
            account=self.account(),
            chunks=self.totals.chunks if self.totals else len(self.chunks),
            created_at=self.created_at,
            deadline_at=2,
            paused=self.paused,
            stop_reason=self.stop_reason,
            function_digests=self.function_digests,
        )

    def summary(self) -> SessionSummary:
        account = self.account() if self.state.ended else None
        return SessionSummary(
            session_id=self.session_id, state=self.state, created_at=self.created_at, deadline_at=2, account=account
        )

    def page(self, bucket: int, after: int, size: int) -> OutcomePage:
        page, following = paged(self.partial | self.outcomes, bucket, after, size)
        return OutcomePage(
            outcomes=tuple(self.outcomes[n] for n in page if n in self.outcomes),
            partial=tuple(self.partial[n] for n in page if n not in self.outcomes),
            next_after=following,
        )

    def record(self, number: int) -> ChunkRecord:
        chunk, outcome = self.chunks[number], self.outcomes.get(number)
        running = number in self.running
        letter = "X" if self.state.ended and self.cancelled else "Q"
        return ChunkRecord(
            chunk=number,
            first_task=chunk.first_task,
            size=chunk.size,
            state=TaskState.COMPLETED if outcome else TaskState.RUNNING if running else TaskState.QUEUED,
            outcomes=outcome.outcomes if outcome else letter * chunk.size,
            attempt=outcome.attempt if outcome else 0,
            owner=f"agent-1{self.text}" if running else None,
            claimable_at=0,
            stages=outcome.stages if outcome else Stages(submitted_at=1, queued_at=2),
        )

    def task(self, index: int) -> TaskRecord | None:
        for number, chunk in self.chunks.items():
            if chunk.first_task <= index < chunk.first_task + chunk.size:
                error = self._error_in(self.outcomes.get(number), index)
                return TaskRecord(
                    session_id=self.session_id,
                    task_id=f"{self.session_id}_{index}",
                    index=index,
                    state=TaskState.FAILED if error else TaskState.QUEUED,
                    error=error,
                    chunk=chunk.chunk,
                    owner=f"agent-1{self.text}" if self.text else None,
                    attempts=0,
                    retries=0,
                    options=self.options,
                    message_handle=None,
                    lease_expires_at=None,
                    stages=Stages(),
                )
        return None

    def error(self, index: int, message: str, kind: FailureKind = FailureKind.HANDLER) -> TaskError:
        """What an agent says of a task that failed."""
        return TaskError(
            kind=kind,
            type=f"ValueError{self.text}",
            message=f"{self.text}{message}",
            trace=(f"line of task {index}{self.text}",),
            attempts=3,
            agent=f"agent-1{self.text}",
            host=f"host-1{self.text}",
        )

    def _error_in(self, outcome: ChunkOutcome | None, index: int) -> TaskError | None:
        at = 0 if outcome is None else index - outcome.first_task
        if outcome is None or outcome.results is None or outcome.outcomes[at] != "F":
            return None
        return TaskError.model_validate_json(decode_lines(outcome.results, outcome.size)[at])

    def letters(self) -> dict[int, DeadLetter]:
        """The dead letter of each chunk that has one."""
        found = {}
        for number, outcome in sorted(self.outcomes.items()):
            tasks = tuple(outcome.first_task + at for at, code in enumerate(outcome.outcomes) if code == "F")
            if tasks and number not in self.purged:
                found[number] = DeadLetter(
                    chunk=number,
                    fingerprint=FINGERPRINT,
                    kind=FailureKind.HANDLER,
                    type=f"ValueError{self.text}",
                    message=f"{self.text}task {tasks[0]}",
                    tasks=tasks,
                    attempts=3,
                    agent=f"agent-1{self.text}",
                    host=f"host-1{self.text}",
                    recorded_at=6,
                )
        return found


def paged(numbers: Iterable[int], bucket: int, after: int, size: int) -> tuple[list[int], int | None]:
    """The next numbers of a bucket, and after which to go on."""
    last = (bucket + 1) * BUCKET_SIZE
    found = [n for n in sorted(numbers) if max(after + 1, bucket * BUCKET_SIZE) <= n < last]
    page = found[:size]
    return page, page[-1] if len(found) > len(page) else None
