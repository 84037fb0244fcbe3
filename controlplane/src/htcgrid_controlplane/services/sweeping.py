"""Checks open sessions for lost messages, lost events, and workflows that have ended too early."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.lease_rules import OVERDUE
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.executions import Executions
from htcgrid_controlplane.outbound.task_events import TaskEvents
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import BucketAccount
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.sweep_schedule import (
    next_sweep_at,
    overdue,
)
from htcgrid_controlplane.services.recovery import (
    Recovered,
    Recovery,
    RecoveryRequest,
)
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.batch_get import MAX_KEYS
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.sweep_index import (
    Due,
    SweepStore,
    Taken,
)
from htcgrid_events import LeaseAction

_LOG = logging.getLogger(__name__)
_PAGE = 25
"""Sessions of one step."""
_TURN = timedelta(seconds=1)
"""By how much a session that is too large for one step goes behind others before its next one."""
_LATE = timedelta(minutes=5)
"""How long after its deadline a session is to have its verdict."""


@dataclass(frozen=True)
class Swept:
    """What a step of a sweep has done."""

    actions: Counter[LeaseAction] = field(default_factory=Counter)
    restarted: int = 0
    """Sessions for which a lifecycle workflow was started again."""
    failures: int = 0
    """Sessions and chunks that could not be dealt with; the log says why."""
    after: Due | None = None
    """After which entry of the index to go on, if there may be more."""

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(
            self.actions + other.actions,
            self.restarted + other.restarted,
            self.failures + other.failures,
            other.after,
        )


@dataclass
class _Room:
    """How much more a step looks at."""

    left: int


class DrainedQueues:
    """Which queues held no message when a run first looked: what the run itself sends does not count."""

    def __init__(self) -> None:
        self._run = 0
        self._answers: dict[object, bool] = {}

    def ask(self, run: int, queue: object, drained: Callable[[], bool]) -> bool:
        """Whether a queue was drained in the run that began at `run` (ms)."""
        if run != self._run:
            self._run, self._answers = run, {}
        if queue not in self._answers:
            self._answers[queue] = drained()
        return self._answers[queue]


@dataclass(frozen=True)
class Sweeping:
    """Sweeps sessions that have no verdict yet."""

    store: SweepStore
    sessions: SessionStore
    accounts: AccountStore
    recovery: Recovery
    queues: TaskQueues
    task_events: TaskEvents
    executions: Executions
    bus: EventBus
    waker: Waker
    clock: Clock
    drained: DrainedQueues = field(default_factory=DrainedQueues)
    room: int = 2_500
    """Open chunks, and as many accounts, that one step looks at: some seconds of work."""

    def sweep(self, shard: int, before: int, after: Due | None) -> Swept:
        """Sweep a page of a shard of the sessions that were to be swept at `before` (ms) or earlier."""
        page, more = self.store.due(shard, before, after, _PAGE)
        done, room, last = Swept(), _Room(self.room), after
        for due in page:
            if room.left <= 0:
                more = True
                break
            swept, again_at = self._try(due, before, room)
            done, last = done + swept, due
            more = more or again_at <= before
        return replace(done, after=last if more else None)

    def _try(self, due: Due, before: int, room: _Room) -> tuple[Swept, int]:
        """Sweep one session. Gives when (ms) it is to be swept again."""
        again_at = next_sweep_at(self.clock())
        try:
            taken = self.store.take(due, again_at)
            if taken is None:
                return Swept(), again_at
            if taken.session.forgotten(self.clock()):
                self.store.drop(due.session_id)
                return Swept(), again_at
            swept, bucket = self._sweep(taken, before, room)
            if bucket is not None:
                again_at = due.sweep_at + int(_TURN.total_seconds() * 1000)
                self.store.go_on(due.session_id, bucket, again_at)
        except Exception:  # noqa: BLE001 - whatever is wrong with one session, the others go on
            _LOG.exception("a session could not be swept", extra={"session_id": due.session_id})
            return Swept(failures=1), again_at
        return swept, again_at

    def _sweep(self, taken: Taken, before: int, room: _Room) -> tuple[Swept, int | None]:
        """Sweep one session. Gives the bucket with which to go on, if the room did not suffice."""
        session = taken.session
        restarted = self._watch_over(taken)
        self.waker.wake(session)
        request = None if session.stop_reason else self._request(taken, before)
        if request is None:
            return Swept(restarted=restarted), None
        recovered, bucket = self._sweep_chunks(session, taken.bucket, request, room)
        if bucket is None:
            self.store.done(session.session_id, self.clock())
        return Swept(recovered.actions, restarted, recovered.failures), bucket

    def _watch_over(self, taken: Taken) -> int:
        """Start a lifecycle workflow if none watches the session. An execution is asked after where something says
        that it may be over: it has not stored its token, or the session should have come to its end."""
        session = taken.session
        late = self.clock() > session.deadline_at + int(_LATE.total_seconds() * 1000)
        suspect = late or session.end_reason is not None or not session.task_token
        if taken.execution and suspect and not self.executions.running(taken.execution):
            _LOG.warning(
                "the lifecycle workflow of a session is over, but the session is not",
                extra={"session_id": session.session_id, "execution": taken.execution},
            )
            self.store.abandon(session.session_id, taken.execution)
        elif taken.execution:
            return 0
        self.bus.put([session.created()])
        return 1

    def _request(self, taken: Taken, run: int) -> RecoveryRequest | None:
        """What may be done about chunks now; none if they are only waiting for their turn."""
        session = taken.session
        now = self.clock()
        late = overdue(session.created_at, taken.swept_at, now)
        queue = (session.options.partition, session.options.priority)
        drained = self.drained.ask(run, queue, lambda: self.queues.drained(session))
        if not (drained or late or taken.bucket):
            return None
        actions = {LeaseAction.REQUEUED, LeaseAction.GIVEN_UP, LeaseAction.SENT_AGAIN}
        if late or self.drained.ask(run, "task events", self.task_events.drained):
            actions.add(LeaseAction.COUNTED)
        before = now - int(OVERDUE.total_seconds() * 1000)
        # A sweep that goes on began with a drained queue, or late.
        return RecoveryRequest(before, frozenset(actions), announces_messages=drained or not late)

    def _sweep_chunks(
        self, session: Session, first: int, request: RecoveryRequest, room: _Room
    ) -> tuple[Recovered, int | None]:
        """Look at open chunks from a bucket on. Gives the bucket with which to go on, if the room did not suffice."""
        done = Recovered()
        for account in self._accounts(session, first, room):
            if room.left <= 0:
                return done, account.bucket
            if account.full:
                self.waker.wake(self.sessions.add_full(session, frozenset({account.bucket})))
            unfinished = sorted(account.submitted - account.finished.keys())
            room.left -= len(unfinished)
            for start in range(0, len(unfinished), MAX_KEYS):
                keys = [ChunkKey(session.session_id, chunk) for chunk in unfinished[start : start + MAX_KEYS]]
                done += self.recovery.recover(keys, request)
        return done, None

    def _accounts(self, session: Session, first: int, room: _Room) -> Iterator[BucketAccount]:
        open_buckets = [bucket for bucket in range(first, session.buckets) if bucket not in session.full_buckets]
        for start in range(0, len(open_buckets), MAX_KEYS):
            buckets: Sequence[int] = open_buckets[start : start + MAX_KEYS]
            yield from self.accounts.read(session, buckets)
            room.left -= 1
