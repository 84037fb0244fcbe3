"""Receives messages and claims the chunks that they name, in one thread per queue."""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from htcgrid_agent.aws.entries import send_isolated
from htcgrid_agent.aws.sqs import TaskMessages
from htcgrid_agent.errors import AWS_ERRORS, CircuitOpen
from htcgrid_agent.protocol.gate import Gate
from htcgrid_agent.protocol.lease_keeper import LeaseKeeper
from htcgrid_agent.protocol.outbox import Outbox
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_agent.work.capacity import Capacity
from htcgrid_agent.work.job import (
    Delivery,
    Job,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
)
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import (
    ChunkStore,
    Claim,
)
from htcgrid_events import Priority, WorkDone

_LOG = logging.getLogger(__name__)
_BACKOFF = Backoff(base=timedelta(milliseconds=200), cap=timedelta(seconds=20))
_JITTER_SECONDS = 2


class Receiver:
    """Receives as much as the gate allows. `claimed` takes the jobs of the chunks that were claimed together."""

    def __init__(
        self,
        agent_id: str,
        messages: TaskMessages,
        store: ChunkStore,
        keeper: LeaseKeeper,
        gate: Gate,
        capacity: Capacity,
        clock: Clock,
        claimed: Callable[[Sequence[Job]], None],
        outbox: Outbox,
        metrics: Metrics,
    ) -> None:
        self._agent_id = agent_id
        self._messages = messages
        self._store = store
        self._keeper = keeper
        self._gate = gate
        self._capacity = capacity
        self._clock = clock
        self._claimed = claimed
        self._outbox = outbox
        self._metrics = metrics
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._claiming = 0

    def start(self) -> None:
        """Begin to receive."""
        for priority in self._messages.priorities:
            # Daemons, since a long poll cannot be cancelled: what it still receives is handed back.
            threading.Thread(target=self._run, args=(priority,), name=f"receive-{priority}", daemon=True).start()

    def close(self) -> None:
        """Receive no more."""
        self._closed.set()
        self._gate.close()

    def wait_until_idle(self, within: timedelta) -> bool:
        """Wait until all received messages are claimed or handed back; false if that took longer than `within`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._claiming, within.total_seconds())

    def _run(self, priority: Priority) -> None:
        failures, pause = 0, 0.0
        while granted := self._gate.enter(priority):
            received: Sequence[Delivery] = ()
            try:
                received = self._messages.receive(priority, granted)
                if received:
                    self._metrics.received.labels(priority).inc(len(received))
                    self._metrics.batch_size.labels("claims").observe(len(received))
                    self._claim(received)
                failures, pause = 0, 0.0
            except CircuitOpen as error:
                # No request was sent: this is no further failure, and the pause is known.
                pause = error.seconds
                self._outbox.hide([(delivery, int(pause)) for delivery in received])
            except AWS_ERRORS as error:
                failures += 1
                pause = _BACKOFF.wait(failures, random.random).total_seconds()
                _LOG.warning("receiving failed: %s", error, extra={"queue": priority})
                self._outbox.hide([(delivery, int(pause)) for delivery in received])
            finally:
                self._gate.leave(priority, len(received))
            if pause:
                self._closed.wait(pause)

    def _claim(self, received: Sequence[Delivery]) -> None:
        self._count(1)
        try:
            self._claim_all(received)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self._claiming += change
            self._changed.notify_all()

    def _claim_all(self, received: Sequence[Delivery]) -> None:
        if self._closed.is_set():
            self._outbox.hide([(delivery, 0) for delivery in received])
            return
        # DynamoDB refuses a request that names a row twice.
        single = {ChunkKey(delivery.queued.session_id, delivery.queued.chunk): delivery for delivery in received}
        wait = int(self._messages.hidden_for.total_seconds())
        self._outbox.hide([(delivery, wait) for delivery in received if delivery not in single.values()])
        claims = [self._claim_of(key, delivery) for key, delivery in single.items()]
        jobs = []
        answers = send_isolated(self._store.claim, claims, refused=None)
        for delivery, claim, answer in zip(single.values(), claims, answers, strict=True):
            if answer is None:
                self._metrics.refused.labels("claims").inc()
                _LOG.error("a claim is refused for good: its message is left in the queue", extra=delivery.ids)
                continue
            accepted, row = answer
            if row is not None and (accepted or _is_mine(row, claim)):
                jobs.append(Job(delivery, row))
            else:
                self._handle_unclaimed(delivery, row)
        for job in jobs:
            self._keeper.keep(job)
        self._capacity.chunks_received(len(jobs))
        if jobs:
            self._claimed(jobs)

    def _claim_of(self, key: ChunkKey, delivery: Delivery) -> Claim:
        return Claim(
            key=key,
            owner=self._agent_id,
            now=self._clock(),
            lease_expires_at=self._keeper.expiry(delivery.received_at),
            message_id=delivery.message_id,
            queued_at=delivery.queued_at,
            tenant=delivery.queued.tenant,
        )

    def _handle_unclaimed(self, delivery: Delivery, row: Chunk | None) -> None:
        if row is None:
            _LOG.warning("a message names a chunk that has no row; it is deleted", extra=delivery.ids)
            self._outbox.delete(delivery)
        elif row.finished:
            self._outbox.finished([(delivery, row, WorkDone())])
        elif row.state is ChunkState.PAUSED:
            # Its session is paused, and sends another message when it is resumed.
            self._outbox.delete(delivery)
        else:
            wait = max(0, row.claimable_at - self._clock()) / 1000
            self._outbox.hide([(delivery, int(wait + 1 + random.random() * _JITTER_SECONDS))])


def _is_mine(row: Chunk, claim: Claim) -> bool:
    """Whether a claim was refused only because it was repeated after its first answer had been lost."""
    return (
        row.owner == claim.owner
        and row.stages.claimed_at == claim.now
        and row.message_id == claim.message_id
        and row.claimable_at == claim.lease_expires_at
    )
