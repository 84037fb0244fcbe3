"""Brings a claimed chunk's inputs, and what earlier attempts made of it, from the row or the data plane."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from htcgrid_agent.breaker import Breaker
from htcgrid_agent.jobs import Job
from htcgrid_agent.tasks import Failed
from htcgrid_controlplane.chunks import Payload
from htcgrid_dataplane import (
    PayloadCorrupt,
    PayloadMissing,
    PayloadStore,
    StoreUnavailable,
    decode_lines,
    encode_lines,
    input_key,
    result_key,
)
from htcgrid_events import INLINE_BYTES, FailureKind, OutcomeCode

_AGENT_LOST = Failed(FailureKind.CRASH, "Agent.Lost", "Every agent that ran the task was lost while it did.")
T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class GuardedStore:
    """A `PayloadStore` that is made when it is first used, and left alone for a while when it keeps failing."""

    def __init__(self, make: Callable[[], PayloadStore], breaker: Breaker) -> None:
        self._make = make
        self._breaker = breaker
        self._lock = threading.Lock()
        self._store: PayloadStore | None = None

    def put(self, key: str, data: bytes) -> None:
        """See `PayloadStore.put`."""
        self._guarded(lambda store: store.put(key, data))

    def get(self, key: str) -> bytes:
        """See `PayloadStore.get`."""
        return self._guarded(lambda store: store.get(key))

    def _guarded(self, use: Callable[[PayloadStore], T]) -> T:
        if not self._breaker.allows():
            raise StoreUnavailable(f"The data plane kept failing: not asked for {self._breaker.seconds_left:.1f} s.")
        try:
            answer = use(self._made())
        except StoreUnavailable:
            self._breaker.failed()
            raise
        except (PayloadMissing, PayloadCorrupt):
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return answer

    def _made(self) -> PayloadStore:
        with self._lock:
            if self._store is None:
                self._store = self._make()
            return self._store


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
        key = input_key(chunk.tenant, chunk.key.session_id, chunk.key.chunk)
        job.inputs = decode_lines(self._read(chunk.inputs, key), chunk.size)
        blamed = [
            offset for offset in chunk.open_offsets if chunk.tries.get(offset, 0) > job.delivery.queued.max_retries
        ]
        # Only what was marked before it ran has more tries than are allowed and is open still.
        job.ends = dict.fromkeys(blamed, _AGENT_LOST)
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
