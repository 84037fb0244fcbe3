"""Brings a claimed chunk's inputs, and what earlier attempts made of it, from the row or the data plane."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from htcgrid_agent.work.job import Job
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
    PayloadCorrupt,
    PayloadMissing,
    PayloadStore,
    decode_lines,
    encode_lines,
    input_key,
    result_key,
)
from htcgrid_events import INLINE_BYTES, OutcomeCode

_LOG = logging.getLogger(__name__)


class Payloads:
    """Reads and writes the lines of chunks."""

    def __init__(self, store: PayloadStore) -> None:
        self._store = store

    def fill(self, job: Job) -> None:
        """Give a job its inputs and its results so far.

        Raises:
            DataPlaneError: a payload is missing, corrupt or out of reach.
        """
        self._fill_results(job)
        chunk = job.chunk
        if job.exceeds_lost_attempts:
            # What kills agents may be the inputs themselves.
            given_up = replace(AGENT_LOST, message=lost_message(chunk.attempt - 1), final=True)
            job.ends = dict.fromkeys(chunk.open_offsets, given_up)
            return
        key = input_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.inputs_edition)
        job.inputs = decode_lines(self._read(chunk.inputs, key), chunk.size)
        blamed = [
            offset for offset in chunk.open_offsets if chunk.tries.get(offset, 0) > job.delivery.queued.max_retries
        ]
        # Only what was marked before it ran has more tries than are allowed and is open still.
        job.ends = {offset: _last_try(chunk, offset) for offset in blamed}
        waiting = deque(offset for offset in chunk.open_offsets if offset not in job.ends)
        if job.careful:
            job.later = waiting
        else:
            job.pending = waiting

    @staticmethod
    def encode(lines: Sequence[bytes]) -> bytes:
        """The lines of a chunk as they are stored."""
        return encode_lines(lines)

    @staticmethod
    def fits_row(job: Job, data: bytes) -> bool:
        """Whether results may lie in the row. Those that lay in the data plane once stay there: a row has one place."""
        return len(data) <= INLINE_BYTES and not job.stored and job.chunk.results.stored_bytes is None

    def put(self, job: Job, data: bytes) -> Payload:
        """Store a job's results in the data plane, under a key of this attempt.

        Raises:
            StoreUnavailable: the data plane could not be reached.
        """
        chunk = job.chunk
        self._store.put(result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.attempt), data)
        return Payload(stored_bytes=len(data))

    def _fill_results(self, job: Job) -> None:
        chunk = job.chunk
        job.so_far = [b""] * chunk.size
        if chunk.results == Payload():
            return
        key = result_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk, chunk.results_attempt)
        try:
            job.so_far = decode_lines(self._read(chunk.results, key), chunk.size)
        except (PayloadMissing, PayloadCorrupt):
            # Nothing has been announced of an unfinished chunk, so its tasks may all be run again.
            _LOG.exception("the results so far cannot be read: all tasks are run again", extra=job.ids)
            job.chunk = replace(chunk, outcomes=OutcomeCode.OPEN.value * chunk.size)

    def _read(self, payload: Payload, key: str) -> bytes:
        return payload.data if payload.data is not None else self._store.get(key)


def _last_try(chunk: Chunk, offset: int) -> Failed:
    """The try that was noted before it began, since its agent might not live to tell of it."""
    began = max((attempt.started_at for attempt in chunk.history.get(offset, ())), default=0)
    return replace(AGENT_LOST, started_at=began, ended_at=began, noted=True)
