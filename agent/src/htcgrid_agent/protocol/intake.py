"""Loads the payloads of claimed chunks, and hands the chunks over to be run."""

import logging
from collections.abc import Callable, Sequence

from htcgrid_agent.protocol.payloads import Payloads
from htcgrid_agent.protocol.transfers import Transfers
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.task import Failed
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, StoreUnavailable
from htcgrid_events import FailureKind

_LOG = logging.getLogger(__name__)


class Intake:
    """Loads payloads that lie in the rows at once, and others in the background.

    `loaded` takes the jobs that are ready to run. All tasks of a job have failed if its inputs are unusable; it has no
    task to run if they cannot be read for now, so that it is retried after a backoff.
    """

    def __init__(self, payloads: Payloads, transfers: Transfers, loaded: Callable[[Sequence[Job]], None]) -> None:
        self._payloads = payloads
        self._transfers = transfers
        self._loaded = loaded

    def add(self, jobs: Sequence[Job]) -> None:
        """Take jobs whose chunks were claimed together."""
        in_rows = [job for job in jobs if _lies_in_row(job)]
        if in_rows:
            self._load(in_rows)
        for job in jobs:
            if not _lies_in_row(job):
                self._transfers.submit(self._load, [job])

    def _load(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                self._payloads.load(job)
            except (PayloadMissing, PayloadCorrupt) as error:
                failure = Failed(FailureKind.INPUT, type(error).__name__, str(error))
                job.ends = dict.fromkeys(job.chunk.open_offsets, failure)
            except StoreUnavailable as error:
                job.inputs_unavailable = True
                _LOG.warning("the inputs cannot be read yet: %s", error, extra=job.ids)
        self._loaded(jobs)


def _lies_in_row(job: Job) -> bool:
    return job.chunk.inputs.data is not None and job.chunk.results.stored_bytes is None
