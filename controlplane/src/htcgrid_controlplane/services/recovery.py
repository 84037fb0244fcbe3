"""Recovers chunks whose agents have died, or whose messages or events were lost.

Each chunk is written on condition that it is as it was read, so whoever renews a lease meanwhile keeps it, and two runs
at once do no harm. A chunk that cannot be dealt with is counted and left; the others are not held up by it.
"""

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
)
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.lease_rules import (
    recovered,
    remedy,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_events import TaskEvents
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.giving_up import GivingUp
from htcgrid_controlplane.storage.lease_index import (
    Entry,
    LeaseStore,
)
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import ChunkFinished, LeaseAction

_LOG = logging.getLogger(__name__)
_BACKOFF = Backoff(base=timedelta(seconds=1), cap=timedelta(minutes=1))
"""How long a chunk waits whose agent died: longer with each attempt in a row that did."""


@dataclass(frozen=True)
class RecoveryRequest:
    """What is to be done about chunks."""

    before: int
    """They must have been left alone since then (ms)."""
    actions: frozenset[LeaseAction] = frozenset(LeaseAction)
    """What may be done."""
    announces_messages: bool = True
    """Whether a message is known to be lost, not only old, so that sending it again is announced."""


@dataclass(frozen=True)
class Recovered:
    """What was done about some chunks."""

    actions: Counter[LeaseAction] = field(default_factory=Counter)
    failures: int = 0
    """Chunks that could not be dealt with; the log says why."""
    after: Entry | None = None
    """After which entry of the index to go on, if there may be more."""

    def __add__(self, other: "Recovered") -> "Recovered":
        return Recovered(self.actions + other.actions, self.failures + other.failures, other.after)


@dataclass(frozen=True)
class Recovery:
    """Repairs chunks that nobody takes care of."""

    sessions: SessionStore
    leases: LeaseStore
    queues: TaskQueues
    task_events: TaskEvents
    giving_up: GivingUp
    bus: EventBus
    clock: Clock
    random: Callable[[], float] = random.random

    def recover_expired(self, shard: int, before: int, after: Entry | None) -> Recovered:
        """Deal with a page of a shard of the index of leases: those that ended at `before` (ms) or earlier."""
        entries, following = self.leases.expired(shard, before, after)
        done = self.recover([entry.key for entry in entries], RecoveryRequest(before))
        return replace(done, after=following)

    def recover(self, keys: Sequence[ChunkKey], request: RecoveryRequest) -> Recovered:
        """Deal with these chunks as ordered."""
        try:
            return self._recover_together(keys, request)
        except Exception:  # noqa: BLE001 - whatever is wrong with one chunk, the others go on
            if len(keys) == 1:
                _LOG.exception("a chunk could not be recovered", extra=_ids(keys[0]))
                return Recovered(failures=1)
            _LOG.exception("%d chunks could not be recovered together: now one by one", len(keys))
        return sum((self.recover([key], request) for key in keys), Recovered())

    def _recover_together(self, keys: Sequence[ChunkKey], request: RecoveryRequest) -> Recovered:
        by_session: defaultdict[str, list[Chunk]] = defaultdict(list)
        for chunk in self.leases.read(keys):
            by_session[chunk.key.session_id].append(chunk)
        actions: Counter[LeaseAction] = Counter()
        for session_id, chunks in by_session.items():
            try:
                session = self.sessions.read(session_id)
            except SessionNotFound:
                self._forget(chunks)
            else:
                actions += self._recover_some(session, chunks, request)
        return Recovered(actions)

    def _recover_some(
        self, session: Session, chunks: Sequence[Chunk], request: RecoveryRequest
    ) -> Counter[LeaseAction]:
        if session.stop_reason is not None or session.state.ended:
            # Its lifecycle settles its chunks.
            self._forget(chunks)
            return Counter()
        self._forget([chunk for chunk in chunks if not session.owns(chunk)])
        by_action: defaultdict[LeaseAction | None, list[Chunk]] = defaultdict(list)
        for chunk in filter(session.owns, chunks):
            action = remedy(chunk, request.before)
            by_action[action if action in request.actions else None].append(chunk)
        return Counter(
            {
                LeaseAction.REQUEUED: self._requeue(session, by_action[LeaseAction.REQUEUED]),
                LeaseAction.SENT_AGAIN: self._send_again(session, by_action[LeaseAction.SENT_AGAIN], request),
                LeaseAction.GIVEN_UP: self._give_up(by_action[LeaseAction.GIVEN_UP]),
                LeaseAction.COUNTED: self._count(by_action[LeaseAction.COUNTED]),
            }
        )

    def _requeue(self, session: Session, chunks: Sequence[Chunk]) -> int:
        now = self.clock()
        waits = {chunk.key.chunk: _BACKOFF.wait(chunk.died + 1, self.random) for chunk in chunks}
        work = [(chunk, now + _milliseconds(waits[chunk.key.chunk])) for chunk in chunks]
        answers = self.leases.requeue(work)
        requeued = [done for done, accepted in zip(work, answers, strict=True) if accepted]
        self.queues.send(session, [chunk.key.chunk for chunk, _ in requeued], waits)
        self._announce((chunk for chunk, _ in requeued), LeaseAction.REQUEUED)
        self.leases.delist(requeued)
        return len(requeued)

    def _send_again(self, session: Session, chunks: Sequence[Chunk], request: RecoveryRequest) -> int:
        self.queues.send(session, [chunk.key.chunk for chunk in chunks])
        if request.announces_messages:
            self._announce(chunks, LeaseAction.SENT_AGAIN)
        self.leases.delist([(chunk, chunk.claimable_at) for chunk in chunks if chunk.state is ChunkState.RETRY])
        return len(chunks)

    def _give_up(self, chunks: Sequence[Chunk]) -> int:
        given_up = [(chunk, last) for chunk in chunks if (last := self.giving_up.give_up(chunk))]
        self._send_events([last for _, last in given_up])
        self._announce((chunk for chunk, _ in given_up), LeaseAction.GIVEN_UP)
        return len(given_up)

    def _count(self, chunks: Sequence[Chunk]) -> int:
        self._send_events(chunks)
        self._announce(chunks, LeaseAction.COUNTED)
        return len(chunks)

    def _send_events(self, chunks: Sequence[Chunk]) -> None:
        self.task_events.send(
            [ChunkFinished(session_id=chunk.key.session_id, outcome=chunk.outcome()) for chunk in chunks]
        )

    def _forget(self, chunks: Sequence[Chunk]) -> None:
        self.leases.delist([(chunk, chunk.claimable_at) for chunk in chunks if not chunk.finished])

    def _announce(self, chunks: Iterable[Chunk], action: LeaseAction) -> None:
        self.bus.put([recovered(chunk, action) for chunk in chunks])


def _milliseconds(wait: timedelta) -> int:
    return int(wait.total_seconds() * 1000)


def _ids(key: ChunkKey) -> dict[str, object]:
    return {"session_id": key.session_id, "chunk": key.chunk}
