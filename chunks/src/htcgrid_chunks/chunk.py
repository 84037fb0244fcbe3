"""The row of a chunk, and what follows from it for its tasks. Pure values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from htcgrid_chunks.history import History
from htcgrid_chunks.state import ChunkState
from htcgrid_dataplane import DEFAULT_STORE, NotedStores, PayloadCorrupt, PayloadMissing, decode_lines
from htcgrid_events import ChunkOutcome, OutcomeCode, PartialOutcome, Stages, TaskState, bucket_of

_Outcome = TypeVar("_Outcome", bound=PartialOutcome)


@dataclass(frozen=True)
class ChunkKey:
    """Names one chunk of one session."""

    session_id: str
    chunk: int

    @property
    def partition_key(self) -> str:
        """The chunks table's partition key: a session spreads over as many of them as it has buckets."""
        return bucket_key(self.session_id, self.bucket)

    @property
    def bucket(self) -> int:
        """The bucket in which it lies."""
        return bucket_of(self.chunk)


def bucket_key(session_id: str, bucket: int) -> str:
    """The partition key of a bucket of a session."""
    return f"{session_id}#{bucket}"


@dataclass(frozen=True)
class Payload:
    """Encoded lines: in the row (`data`), or in the data plane (`stored_bytes`, in the store of the name `store`)."""

    data: bytes | None = None
    stored_bytes: int | None = None
    store: str = DEFAULT_STORE

    def parts(self, stores: NotedStores, key: str) -> Iterable[bytes]:
        """The encoded lines in parts: from the row, or from the store that has them, where they lie under `key`.

        Raises:
            PayloadMissing: there are none.
            DataPlaneError: as `NotedStores.holding` and `PayloadStore.stream`, also while they are iterated over.
        """
        if self.data is not None:
            return [self.data]
        if self.stored_bytes is None:
            raise PayloadMissing(f"no payload lies under {key}")
        return stores.holding(self.store).stream(key, self.stored_bytes)


@dataclass(frozen=True)
class Chunk:
    """The row of a chunk."""

    key: ChunkKey
    tenant: str
    state: ChunkState
    first_task: int
    size: int
    attempt: int
    inputs: Payload
    outcomes: str
    """A letter of `OutcomeCode` per task."""
    inputs_edition: str = ""
    """Under which name stored inputs lie that a redrive has changed."""
    results: Payload = Payload()
    results_attempt: int = 0
    """The attempt under whose key stored results lie."""
    tries: Mapping[int, int] = field(default_factory=dict)
    """How often tasks of the chunk (by their offset) have failed, for those that have."""
    history: History = field(default_factory=dict)
    """The tries of its tasks that did not complete them."""
    returned: int = 0
    """The last attempt that came to an orderly end and left tasks open."""
    progressed: int = 0
    """The last attempt that noted, while it ran, what had become of tasks or which one it was about to run."""
    redeliveries: int = 0
    """How often it got a new message, after `redelivered_attempt`, for one that nobody could deal with."""
    redelivered_attempt: int = -1
    owner: str = ""
    function_digests: tuple[str, ...] = ()
    """The versions of the function that ran its tasks, in the order of the attempts that wrote something."""
    claimable_at: int = 0
    """When (ms) it may be claimed: at once while queued, at the end of its lease or of its backoff."""
    message_id: str = ""
    stages: Stages = field(default_factory=Stages)
    expires_at: int = 0
    """When (seconds) the row may be forgotten: together with all rows of its session."""

    @property
    def open_offsets(self) -> list[int]:
        """Offsets of the tasks without an outcome."""
        return [offset for offset, code in enumerate(self.outcomes) if code == OutcomeCode.OPEN.value]

    @property
    def partly_final(self) -> bool:
        """Whether tasks of it have their outcome."""
        return self.outcomes != OutcomeCode.OPEN.value * self.size

    @property
    def failed_tasks(self) -> frozenset[int]:
        """Indexes within the session of the tasks that failed for good."""
        return frozenset(
            self.first_task + offset for offset, code in enumerate(self.outcomes) if code == OutcomeCode.FAILED.value
        )

    @property
    def waits(self) -> bool:
        """Whether nobody runs it, and somebody may."""
        return self.state in (ChunkState.QUEUED, ChunkState.RETRY)

    @property
    def finished(self) -> bool:
        """Whether every task has its outcome, for good."""
        return self.state is ChunkState.FINISHED

    def holds_same_tasks(self, other: "Chunk") -> bool:
        """Whether both rows were made of the same tasks. Of inputs in the data plane only the size is compared."""
        if (self.first_task, self.size) != (other.first_task, other.size):
            return False
        mine, others = self.inputs.data, other.inputs.data
        if mine is None or others is None or mine == others:
            return self.inputs == other.inputs
        # Another version of the compressor may have written the same text.
        try:
            return decode_lines(mine, self.size) == decode_lines(others, self.size)
        except PayloadCorrupt:
            return False

    @property
    def redeliveries_in_vain(self) -> int:
        """How many new messages it got for such that nobody could deal with, without being claimed in between."""
        return self.redeliveries if self.redelivered_attempt == self.attempt else 0

    @property
    def died(self) -> int:
        """How many attempts in a row, before the one that runs, ended without a word: with their agents."""
        return max(0, self.attempt - 1 - self.returned)

    def outcome(self, notified_at: int = 0, url: str | None = None) -> ChunkOutcome:
        """What a finished chunk has to say."""
        return self._outcome(ChunkOutcome, notified_at, url)

    def partial_outcome(self, notified_at: int = 0, url: str | None = None) -> PartialOutcome:
        """What a chunk has to say of its tasks that are final, while others may be open."""
        return self._outcome(PartialOutcome, notified_at, url)

    def _outcome(self, model: type[_Outcome], notified_at: int, url: str | None) -> _Outcome:
        return model(
            chunk=self.key.chunk,
            first_task=self.first_task,
            outcomes=self.outcomes,
            attempt=self.attempt,
            agent=self.owner,
            stages=self.stages.model_copy(update={"notified_at": notified_at}),
            function_digests=self.function_digests,
            results=self.results.data,
            stored_bytes=self.results.stored_bytes,
            url=url,
        )

    @property
    def lease_expires_at(self) -> int | None:
        """The end of the lease (ms) of a chunk that runs."""
        return self.claimable_at if self.state is ChunkState.RUNNING else None

    def task_state(self, offset: int) -> TaskState:
        """The state of one task as its user sees it."""
        code = OutcomeCode(self.outcomes[offset])
        return self.state_of_open_tasks if code is OutcomeCode.OPEN else _TASK_OF_CODE[code]

    @property
    def state_of_open_tasks(self) -> TaskState:
        """The state of those of its tasks that have no outcome yet; there are none once it has finished."""
        return _TASK_OF_CHUNK[self.state]


_TASK_OF_CODE = {
    OutcomeCode.COMPLETED: TaskState.COMPLETED,
    OutcomeCode.FAILED: TaskState.FAILED,
    OutcomeCode.CANCELLED: TaskState.CANCELLED,
}
_TASK_OF_CHUNK = {
    ChunkState.QUEUED: TaskState.QUEUED,
    ChunkState.PAUSED: TaskState.QUEUED,
    ChunkState.RUNNING: TaskState.RUNNING,
    ChunkState.RETRY: TaskState.RETRY,
    ChunkState.FINISHED: TaskState.COMPLETED,
}
