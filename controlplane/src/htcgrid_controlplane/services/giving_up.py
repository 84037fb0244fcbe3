"""Fails the open tasks of a chunk that agents keep dying over.

Giving up is an attempt of the control plane's own: it takes the chunk as an agent would, so what a late agent still
writes is refused, and what it stores has another key.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from htcgrid_chunks.chunk import (
    Chunk,
    Payload,
)
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.lease_rules import lost_message
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import (
    ChunkLease,
    ChunkProgress,
    ChunkStore,
)
from htcgrid_controlplane.storage.lease_index import LeaseStore
from htcgrid_dataplane import (
    PayloadCorrupt,
    PayloadMissing,
    encode_lines,
    iterate_lines,
    result_key,
)
from htcgrid_dataplane.stores import Stores
from htcgrid_events import INLINE_BYTES, FailureKind, OutcomeCode, TaskError

_LOG = logging.getLogger(__name__)
_OWNER = "control-plane"
_LEASE = timedelta(minutes=1)


@dataclass(frozen=True)
class GivingUp:
    """Ends chunks without agents."""

    chunks: ChunkStore
    leases: LeaseStore
    stores: Stores
    clock: Clock

    def give_up(self, chunk: Chunk, because: str = "") -> Chunk | None:
        """Let every open task of a chunk fail as lost; those that have ended keep their outcomes. The tasks' errors say
        `because`, or that agents died over the chunk.

        Gives the row as it is then; none if somebody else has taken the chunk meanwhile.

        Raises:
            StoreUnavailable: the data plane could not be reached; the chunk is found again when its lease ends.
        """
        now = self.clock()
        lease = self.leases.take(chunk, _OWNER, now + int(_LEASE.total_seconds() * 1000))
        if lease is None:
            return None
        outcomes, lines = self._so_far(chunk)
        data = encode_lines(
            _lost_line(chunk, offset, because) if code == OutcomeCode.OPEN.value else line
            for offset, (code, line) in enumerate(zip(outcomes, lines, strict=True))
        )
        progress = ChunkProgress(
            outcomes=outcomes.replace(OutcomeCode.OPEN.value, OutcomeCode.FAILED.value),
            results=self._put(chunk, lease, data),
            tries=dict(chunk.tries),
            started_at=chunk.stages.started_at,
            finished_at=now,
            store_before=chunk.results.store,
        )
        return _after(chunk, lease, progress) if self.chunks.finish([(lease, progress)])[0] else None

    def _so_far(self, chunk: Chunk) -> tuple[str, Sequence[bytes]]:
        none = [b""] * chunk.size
        if chunk.results == Payload():
            return chunk.outcomes, none
        key = result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.results_attempt)
        try:
            return chunk.outcomes, list(iterate_lines(chunk.results.parts(self.stores, key), chunk.size))
        except (PayloadMissing, PayloadCorrupt):
            # Nothing has been announced of an unfinished chunk, so what cannot be read has not happened.
            _LOG.exception("the results so far of %s cannot be read: all its tasks are lost", key)
            return OutcomeCode.OPEN.value * chunk.size, none

    def _put(self, chunk: Chunk, lease: ChunkLease, data: bytes) -> Payload:
        if len(data) <= INLINE_BYTES and chunk.results.stored_bytes is None:
            return Payload(data)
        key = result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, lease.attempt)
        self.stores.current.put(key, data)
        return Payload(stored_bytes=len(data), store=self.stores.noted)


def _after(chunk: Chunk, lease: ChunkLease, progress: ChunkProgress) -> Chunk:
    times = {"started_at": progress.started_at, "finished_at": progress.finished_at}
    return replace(
        chunk,
        state=ChunkState.FINISHED,
        owner=lease.owner,
        attempt=lease.attempt,
        outcomes=progress.outcomes,
        results=progress.results,
        stages=chunk.stages.model_copy(update=times),
    )


def _lost_line(chunk: Chunk, offset: int, because: str) -> bytes:
    error = TaskError(
        kind=FailureKind.LOST,
        type="Agent.Lost",
        message=because or lost_message(chunk.attempt),
        attempts=chunk.attempt,
        agent=chunk.owner,
        history=chunk.history.get(offset, ()),
    )
    return error.model_dump_json().encode()
