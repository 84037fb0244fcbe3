"""The outcome of a chunk: the same model from the agent to the user."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from htcgrid_events.model import Blob, Contract, SessionId, TimestampMs
from htcgrid_events.options import RetryPolicy
from htcgrid_events.states import OutcomeCode
from htcgrid_events.views import Shown, moment, shortened


class FailureKind(StrEnum):
    """What ended a task that failed."""

    HANDLER = "handler"
    """The handler raised, or returned what is not JSON or too large."""
    TIMEOUT = "timeout"
    """The task ran longer than it may, and its worker was killed."""
    CRASH = "crash"
    """The worker died while it ran the task."""
    INIT = "init"
    """The worker could not load the handler."""
    INPUT = "input"
    """The task's input could not be read from the data plane."""
    LOST = "lost"
    """The agent died without a word while it held the task."""


class Attempt(Shown, Contract):
    """One try of a task that did not complete it."""

    started_at: TimestampMs
    """When it began; when its chunk was claimed if that is not known."""
    ended_at: TimestampMs
    """When it ended, or when its end was noticed."""
    agent: str
    """The agent's id; empty where it died before anybody noted it."""
    host: str = ""
    kind: FailureKind
    type: str
    message: str
    trace: tuple[str, ...] = ()
    function_digest: str = ""
    """Which version of the function ran; empty where that is not known."""

    def _summary(self) -> str:
        seconds = (self.ended_at - self.started_at) / 1000
        where = f" on {self.agent or self.host}" if self.agent or self.host else ""
        return f"of {seconds:.1f} s{where}, {self.kind.value}: {self.type}: {shortened(self.message)}"

    def _details(self) -> dict[str, object]:
        return {
            "started": moment(self.started_at),
            "ended": moment(self.ended_at),
            "agent": self.agent or "-",
            "host": self.host or "-",
            "kind": self.kind.value,
            "error": f"{self.type}: {self.message}",
            "function": self.function_digest or "-",
        }


class TaskError(Contract):
    """Why a task failed, as the user sees it."""

    kind: FailureKind
    type: str
    message: str
    trace: tuple[str, ...] = ()
    attempts: int = 1
    """How often the task was tried. Of a task that was lost with its agents: how often its chunk was claimed."""
    agent: str = ""
    host: str = ""
    function_digest: str = ""
    """Which version of the function ran at the last try; empty where that is not known."""
    history: tuple[Attempt, ...] = ()
    """The earlier tries, oldest first; the oldest are left out where there is no room."""


class Stages(Contract):
    """When a chunk passed each stage of its way, in ms since the epoch; 0 where it has not."""

    submitted_at: TimestampMs = 0
    queued_at: TimestampMs = 0
    claimed_at: TimestampMs = 0
    started_at: TimestampMs = 0
    finished_at: TimestampMs = 0
    notified_at: TimestampMs = 0


class PartialOutcome(Contract):
    """The outcomes of those tasks of a chunk that are final, while others may be open. `results` are JSON lines,
    compressed: the result of a completed task, the `TaskError` of a failed one, an empty line for a cancelled one. The
    line of an open task means nothing. They lie here when small, else in the data plane (`stored_bytes`)."""

    chunk: Annotated[int, Field(ge=0)]
    first_task: Annotated[int, Field(ge=0)]
    outcomes: Annotated[str, StringConstraints(pattern=r"^[CFXQ]+$")]
    """A letter of `OutcomeCode` per task."""
    attempt: Annotated[int, Field(ge=0)]
    agent: str
    stages: Stages
    function_digests: tuple[str, ...] = ()
    """The versions of the function that its tasks ran on, in the order of its attempts; one, unless it was tried again
    after the function had changed."""
    results: Blob | None = None
    stored_bytes: Annotated[int, Field(ge=0)] | None = None
    url: Annotated[str | None, Field(repr=False)] = None
    """Where the stored results can be fetched for a short while, an absolute URL or a path of the API; only in answers
    of the API."""

    @property
    def size(self) -> int:
        """How many tasks the chunk has."""
        return len(self.outcomes)

    def count(self, code: OutcomeCode) -> int:
        """How many of its tasks had this outcome."""
        return self.outcomes.count(code.value)


class ChunkOutcome(PartialOutcome):
    """A finished chunk. `results` are JSON lines, compressed: the result of a completed task, the `TaskError` of a
    failed one, an empty line for a cancelled one. They lie here when small, else in the data plane (`stored_bytes`)."""

    outcomes: Annotated[str, StringConstraints(pattern=r"^[CFX]+$")]


class WorkDone(Contract):
    """What workers did in one attempt of a chunk, for those who guess how much work the next ones are."""

    tasks: Annotated[int, Field(ge=0)] = 0
    """How many tasks ran to an end; 0 where nobody knows."""
    worker_us: Annotated[int, Field(ge=0)] = 0
    """How long workers were busy with them together, in µs."""


class ChunkFinished(Contract):
    """The task event that an agent sends to the control plane, after the row says the same."""

    session_id: SessionId
    outcome: ChunkOutcome
    work: WorkDone = WorkDone()
    """Of the last attempt; nothing where the event is repeated."""


class ChunkQueued(RetryPolicy):
    """The message that makes a chunk visible to agents: its key and what its session's options say of its run, since
    the claim of the row returns the rest."""

    session_id: SessionId
    chunk: Annotated[int, Field(ge=0)]
    tenant: str
    task_timeout_seconds: int
