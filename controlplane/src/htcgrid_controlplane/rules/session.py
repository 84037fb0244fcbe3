"""The row of a session, and what follows from it. Pure values."""

from dataclasses import dataclass

from htcgrid_chunks.chunk import Chunk
from htcgrid_controlplane.errors import AccountOpen
from htcgrid_controlplane.rules.accounting import (
    EndReason,
    buckets_in,
)
from htcgrid_events import (
    SESSION_ENDED,
    Account,
    SessionAccepted,
    SessionCreated,
    SessionEnded,
    SessionEndedFrame,
    SessionOptions,
    SessionReopened,
    SessionState,
    SessionStatus,
    StopReason,
    Totals,
)


@dataclass(frozen=True)
class Session:
    """The row of a session."""

    session_id: str
    tenant: str
    options: SessionOptions
    created_at: int
    deadline_at: int
    state: SessionState = SessionState.OPEN
    totals: Totals | None = None
    """How much it holds, once the client has said so."""
    buckets: int = 0
    """Every bucket into which a chunk was ever submitted has a lower number."""
    full_buckets: frozenset[int] = frozenset()
    """Buckets of which every chunk has finished."""
    stop_reason: EndReason | None = None
    """Why it takes no more chunks and its open tasks are cancelled."""
    paused: bool = False
    """Whether its waiting chunks are paused."""
    failures: int = 0
    """Tasks that have failed for good; only counted where there is a budget for them."""
    task_token: str = ""
    """What wakes the lifecycle workflow."""
    watched: bool = False
    """Whether an execution of the lifecycle workflow has adopted it."""
    redrives: int = 0
    """How often a finished chunk of it was reopened. Who reads its accounts and then writes its row sees by it whether
    they moved meanwhile."""
    counted_tasks: int | None = None
    """Tasks that its tenant's row counts for it until it has its verdict; none where it is not counted, since it has
    ended or an earlier release created it."""
    counted_chunks: int = 0
    """Chunks that it took over; more than it holds where a request died and was repeated."""
    subscribers: frozenset[str] = frozenset()
    account: Account | None = None
    """The account at the verdict."""
    function_digests: tuple[str, ...] = ()
    """The versions of the function that its tasks ran on, at the verdict."""
    ended_at: int | None = None
    expires_at: int = 0
    """When (seconds) the session is forgotten with all of its rows: from then on nobody is shown any of them."""

    def owns(self, chunk: Chunk) -> bool:
        """Whether a row that lies under a key of this session is its own, not one that an earlier session of the same
        id left behind. All rows of a session expire in the same second, and later than those of any earlier one."""
        return (chunk.tenant, chunk.expires_at) == (self.tenant, self.expires_at)

    def forgotten(self, now: int) -> bool:
        """Whether it is past its time at `now` (ms), though its row may still be there."""
        return now >= self.expires_at * 1000

    @property
    def all_finished(self) -> bool:
        """Whether every chunk that it will ever hold has finished."""
        return self.totals is not None and len(self.full_buckets) == buckets_in(self.totals)

    @property
    def end_reason(self) -> EndReason | None:
        """Why its lifecycle may go on to the end, if it may."""
        return self.stop_reason or (EndReason.DONE if self.all_finished else None)

    @property
    def over_budget(self) -> bool:
        """Whether more tasks have failed than it may cost. A share is judged once the whole is known."""
        options = self.options
        if options.max_failures is not None and self.failures > options.max_failures:
            return True
        share = options.max_failure_share
        return share is not None and self.totals is not None and self.failures > share * self.totals.tasks

    def created(self) -> SessionCreated:
        """What its lifecycle starts with."""
        return SessionCreated(
            session_id=self.session_id,
            tenant=self.tenant,
            options=self.options,
            created_at=self.created_at,
            deadline_at=self.deadline_at,
        )

    def reopened(self) -> SessionReopened:
        """What its lifecycle starts with when it reopens."""
        return SessionReopened.model_validate(self.created().model_dump())

    def ended_event(self) -> SessionEnded:
        """What the bus is told of its verdict, which it must have."""
        account, ended_at = self._verdict
        return SESSION_ENDED[self.state](
            session_id=self.session_id,
            tenant=self.tenant,
            state=self.state,
            account=account,
            created_at=self.created_at,
            ended_at=ended_at,
            function_digests=self.function_digests,
        )

    def ended_frame(self) -> SessionEndedFrame:
        """What subscribers are told of its verdict, which it must have."""
        account, ended_at = self._verdict
        return SessionEndedFrame(
            session_id=self.session_id,
            state=self.state,
            account=account,
            ended_at=ended_at,
            function_digests=self.function_digests,
        )

    @property
    def _verdict(self) -> tuple[Account, int]:
        if self.account is None or self.ended_at is None:
            raise AccountOpen(f"session {self.session_id} has no verdict")
        return self.account, self.ended_at

    def accepted(self) -> SessionAccepted:
        """What its owner is told when the grid has taken chunks over."""
        return SessionAccepted(session_id=self.session_id, state=self.state, deadline_at=self.deadline_at)

    def status(self, account: Account, chunks: int, function_digests: tuple[str, ...]) -> SessionStatus:
        """What its owner sees of it. The account and the versions of the function are those of now; at the verdict the
        session has its own."""
        return SessionStatus(
            session_id=self.session_id,
            state=self.state,
            options=self.options,
            account=self.account or account,
            chunks=chunks,
            created_at=self.created_at,
            deadline_at=self.deadline_at,
            ended_at=self.ended_at,
            paused=self.paused and not self.state.ended,
            stop_reason=StopReason(self.stop_reason) if self.stop_reason else None,
            function_digests=self.function_digests or function_digests,
        )
