"""Loads the payloads of claimed chunks, and hands the chunks over to be run."""

import logging
from collections.abc import Callable, Sequence

from htcgrid_agent.protocol.data_loading import DataLoading
from htcgrid_agent.protocol.payloads import MemoryFull, Payloads
from htcgrid_agent.protocol.transfers import Transfers
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.memory import PayloadMemory
from htcgrid_agent.work.task import Failed
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, StoreUnavailable
from htcgrid_events import FailureKind

_LOG = logging.getLogger(__name__)


class Intake:
    """Loads payloads that lie in the rows at once, and others in the background.

    `loaded` takes the jobs that are ready to run. All tasks of a job have failed if its inputs are unusable; it has no
    task to run if they cannot be read for now, so that it is retried after a backoff.
    """

    def __init__(
        self,
        payloads: Payloads,
        transfers: Transfers,
        memory: PayloadMemory,
        data: DataLoading,
        loaded: Callable[[Sequence[Job]], None],
    ) -> None:
        self._payloads = payloads
        self._transfers = transfers
        self._memory = memory
        self._data = data
        self._loaded = loaded
        self._closed = False

    def add(self, jobs: Sequence[Job]) -> None:
        """Take jobs whose chunks were claimed together."""
        in_rows = [job for job in jobs if not job.stored_bytes]
        if in_rows:
            self._load(in_rows)
        for job in jobs:
            if job.stored_bytes:
                self._load_when_free(job, job.stored_bytes)

    def close(self) -> None:
        """Load no more: jobs that wait for memory or data, or still come, are handed over without any task to run."""
        self._closed = True
        self._memory.close()
        self._data.close()

    def _load_when_free(self, job: Job, size: int) -> None:
        # Nobody waits in a thread: those of the pool also store the results that free the memory.
        self._memory.when_free(job, size, lambda: self._transfers.submit(self._load, [job]))

    def _load(self, jobs: Sequence[Job]) -> None:
        self._loaded([job for job in jobs if self._is_loaded(job)])

    def _is_loaded(self, job: Job) -> bool:
        """Load a job; false if it waits for memory, or for shared data."""
        if self._closed or job.lost:
            return True
        try:
            self._payloads.load(job)
        except MemoryFull as error:
            _LOG.info("a chunk waits for memory: its payloads need %d bytes", error.size, extra=job.ids)
            self._load_when_free(job, error.size)
            return False
        except (PayloadMissing, PayloadCorrupt) as error:
            failure = Failed(FailureKind.INPUT, type(error).__name__, str(error), final=True)
            _LOG.warning("all tasks of a chunk failed: %s %s", failure.kind, failure.type, extra=job.ids)
            job.ends = dict.fromkeys(job.chunk.open_offsets, failure)
        except StoreUnavailable as error:
            job.inputs_unavailable = True
            _LOG.warning("the inputs cannot be read yet: %s", error, extra=job.ids)
        else:
            return self._data.has(job)
        return True
