"""Reads the inputs and earlier results of a chunk from its row or the data plane, and stores new results."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from htcgrid_agent.work.conclusion import results_size
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.memory import PayloadMemory
from htcgrid_agent.work.task import (
    AGENT_LOST,
    Failed,
)
from htcgrid_chunks.chunk import (
    Chunk,
    Payload,
)
from htcgrid_chunks.lease_rules import lost_message
from htcgrid_dataplane import (
    MAX_EXPANDED_BYTES,
    PayloadCorrupt,
    PayloadMissing,
    decode_lines,
    decoded_size,
    encode_lines,
    input_key,
    lines_memory,
    result_key,
)
from htcgrid_dataplane.stores import Stores
from htcgrid_events import INLINE_BYTES, MAX_TASK_BYTES, OutcomeCode

_LOG = logging.getLogger(__name__)


class MemoryFull(Exception):
    """Raised when payloads do not fit beside those of other chunks for now; they need `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"payloads of {size} bytes have no room in memory")
        self.size = size


class Payloads:
    """The payloads of chunks, each of which holds its share of `memory` from its loading on."""

    def __init__(self, stores: Stores, memory: PayloadMemory) -> None:
        self._stores = stores
        self._memory = memory

    def load(self, job: Job) -> None:
        """Load the inputs and the earlier results of a job, and decide which of its tasks are run.

        Raises:
            DataPlaneError: a payload is missing or corrupt, or cannot be read for now.
            MemoryFull: there is no room for it now.
        """
        self._load_results(job)
        job.result_bytes = results_size(job.earlier_results)
        chunk = job.chunk
        if job.exceeds_lost_attempts:
            # The inputs themselves may be what kills agents.
            given_up = replace(AGENT_LOST, message=lost_message(chunk.attempt - 1), final=True)
            job.ends = dict.fromkeys(chunk.open_offsets, given_up)
            return
        key = input_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.inputs_edition)
        job.inputs = self._lines(job, chunk.inputs, key, min(MAX_EXPANDED_BYTES, chunk.size * (MAX_TASK_BYTES + 1)))
        self._memory.shrink(job, lines_memory(job.earlier_results) + lines_memory(job.inputs))
        blamed = [
            offset for offset in chunk.open_offsets if chunk.tries.get(offset, 0) > job.delivery.queued.max_retries
        ]
        # Only a task that was marked before it ran can have more tries than allowed and still be open.
        job.ends = {offset: _last_try(chunk, offset) for offset in blamed}
        waiting = deque(offset for offset in chunk.open_offsets if offset not in job.ends)
        if job.careful:
            job.isolated = waiting
        else:
            job.pending = waiting

    @staticmethod
    def encode(lines: Sequence[bytes]) -> bytes:
        """The lines of a chunk in their stored form."""
        return encode_lines(lines)

    @staticmethod
    def fits_row(job: Job, data: bytes) -> bool:
        """Whether results may lie in the row. Results that have been in the data plane stay there."""
        return len(data) <= INLINE_BYTES and not job.stored and job.chunk.results.stored_bytes is None

    def put(self, job: Job, data: bytes, *, last: bool) -> Payload:
        """Store results of a job in the data plane, under a key of its attempt: the last ones, or a checkpoint.

        Raises:
            StoreUnavailable: the data plane could not be reached.
        """
        chunk = job.chunk
        key = result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.attempt)
        store = self._stores.current if last else self._stores.checkpoints
        store.put(key, data)
        return Payload(stored_bytes=len(data), store=self._stores.noted)

    def _load_results(self, job: Job) -> None:
        chunk = job.chunk
        job.earlier_results = [b""] * chunk.size
        if chunk.results == Payload():
            return
        key = result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.results_attempt)
        try:
            job.earlier_results = self._lines(job, chunk.results, key, MAX_EXPANDED_BYTES)
        except (PayloadMissing, PayloadCorrupt):
            # Nothing of an unfinished chunk is counted, so all its tasks may run again. Clients that were told of some
            # keep what they were told.
            _LOG.exception("the earlier results cannot be read: all tasks are run again", extra=job.ids)
            job.chunk = replace(chunk, outcomes=OutcomeCode.OPEN.value * chunk.size)

    def _lines(self, job: Job, payload: Payload, key: str, max_bytes: int) -> list[bytes]:
        data = self._read(payload, key)
        held = job.stored_bytes + lines_memory(job.earlier_results)
        if len(data) > INLINE_BYTES:
            self._hold(job, held + decoded_size(data, job.chunk.size, max_bytes))
            return decode_lines(data, job.chunk.size, max_bytes)
        # So little expands to 8 MB at most: it need not be measured before.
        lines = decode_lines(data, job.chunk.size, max_bytes)
        self._hold(job, held + lines_memory(lines))
        return lines

    def _hold(self, job: Job, size: int) -> None:
        if not self._memory.grow(job, size):
            job.earlier_results = ()
            raise MemoryFull(size)

    def _read(self, payload: Payload, key: str) -> bytes:
        if payload.data is not None:
            return payload.data
        if payload.stored_bytes is None:
            raise PayloadMissing(f"no payload lies under {key}")
        return self._stores.holding(payload.store).get(key, payload.stored_bytes)


def _last_try(chunk: Chunk, offset: int) -> Failed:
    """The try that was counted before it started, in case its agent would die over it."""
    began = max((attempt.started_at for attempt in chunk.history.get(offset, ())), default=0)
    return replace(AGENT_LOST, started_at=began, ended_at=began, noted=True)
