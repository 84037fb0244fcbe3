"""Has the shared data at hand to which the tasks of a job refer, before the job is handed over to be run."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from htcgrid_agent.protocol.transfers import Transfers
from htcgrid_agent.shared_data.cache import DataCache, Hold, Item
from htcgrid_agent.shared_data.errors import DataUnavailable, DataUnusable, FetchStopped
from htcgrid_agent.shared_data.references import BadReference, ReferringEvent, find_references
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_agent.work.job import Job
from htcgrid_agent.work.task import Failed
from htcgrid_events import MAX_DATA_PER_REQUEST, DataReference, FailureKind

_LOG = logging.getLogger(__name__)
_Outcome = Hold | DataUnusable | DataUnavailable | FetchStopped


@dataclass(eq=False)
class _Wanted:
    """A job, and what its tasks refer to."""

    job: Job
    events: dict[int, ReferringEvent]
    """By the offsets of the tasks."""
    missing: set[Item]
    outcomes: dict[Item, _Outcome] = field(default_factory=dict)
    paths: dict[Item, str] = field(default_factory=dict)
    """Where those items lie that are held."""
    handed_over: bool = False

    def failure(self, event: ReferringEvent) -> DataUnusable | None:
        """Why a task fails that has this event."""
        outcomes = (self.outcomes[self.item(place.reference)] for place in event.places)
        return next((outcome for outcome in outcomes if isinstance(outcome, DataUnusable)), None)

    def path(self, reference: DataReference) -> str:
        """Where a task finds what it refers to."""
        return self.paths[self.item(reference)]

    def item(self, reference: DataReference) -> Item:
        """What a reference of its tasks means."""
        return Item(self.job.chunk.tenant, reference)


class DataLoading:
    """Puts paths in the places of references, and fetches in the background what is not on the node yet.

    `cache` is none where workers could see no folder of the agent's. `loaded` takes the jobs that have waited: their
    tasks whose data is unusable have failed, and none is left to run where data cannot be had for now.
    """

    def __init__(
        self,
        cache: DataCache | None,
        fetches: Transfers,
        loaded: Callable[[Sequence[Job]], None],
        metrics: Metrics,
    ) -> None:
        self._cache = cache
        self._fetches = fetches
        self._loaded = loaded
        self._requests = metrics.data
        self._mutex = threading.Lock()
        self._waiting: dict[Item, list[_Wanted]] = {}
        """Who waits for what is being fetched."""
        self._stopped = threading.Event()

    @property
    def fetching(self) -> bool:
        """Whether tasks wait for something that is being fetched."""
        return bool(self._waiting)

    def close(self) -> None:
        """Fetch no more: jobs that wait are handed over without any task to run."""
        self._stopped.set()
        with self._mutex:
            waiting = [wanted for each in self._waiting.values() for wanted in each]
        for wanted in waiting:
            self._hand_over(wanted)

    def has(self, job: Job) -> bool:
        """Whether a job whose inputs were loaded can be handed over now; else it is when its data has come."""
        wanted = _Wanted(job, self._events(job), set())
        if not wanted.events:
            return True
        if self._cache is None:
            self._fail(job, wanted.events, _NOWHERE)
            return True
        items = {wanted.item(place.reference) for event in wanted.events.values() for place in event.places}
        excess = self._excess(items)
        if excess:
            self._fail(job, wanted.events, excess)
            return True
        for item in items:
            self._note(wanted, item, self._try(self._cache, item))
        if not wanted.missing:
            self._complete(wanted)
            return True
        self._want(self._cache, wanted)
        return False

    def _events(self, job: Job) -> dict[int, ReferringEvent]:
        events = {}
        for offset in [*job.pending, *job.isolated]:
            try:
                event = find_references(job.inputs[offset])
            except BadReference as error:
                _fail_task(job, offset, DataUnusable("BadReference", str(error)))
            else:
                if event:
                    events[offset] = event
        return events

    def _excess(self, items: set[Item]) -> DataUnusable | None:
        """Why the data of a chunk can never be there at once, if that is so."""
        smaller = "submit with a smaller chunk_size"
        if len(items) > MAX_DATA_PER_REQUEST:
            return DataUnusable(
                "TooMuchData",
                f"The tasks of its chunk refer to {len(items)} shared data, and {MAX_DATA_PER_REQUEST} are the most: "
                f"{smaller}.",
            )
        size = sum(item.reference.bytes for item in items)
        if len(items) > 1 and self._cache and size > self._cache.limit:
            return DataUnusable(
                "TooMuchData",
                f"The tasks of its chunk refer to {size} bytes of shared data, and HTCGRID_DATA_MB lets a node keep "
                f"{self._cache.limit}: {smaller}, or set it higher.",
            )
        return None

    @staticmethod
    def _fail(job: Job, events: dict[int, ReferringEvent], failure: DataUnusable) -> None:
        for offset in events:
            _fail_task(job, offset, failure)

    def _try(self, cache: DataCache, item: Item) -> _Outcome | None:
        try:
            return cache.try_hold(item)
        except DataUnusable as error:
            return error
        except OSError as error:
            return DataUnavailable(f"the folder of shared data cannot be used: {error}")

    def _note(self, wanted: _Wanted, item: Item, outcome: _Outcome | None) -> None:
        self._requests.labels("miss" if outcome is None else "hit").inc()
        if outcome is None:
            wanted.missing.add(item)
        else:
            wanted.outcomes[item] = outcome

    def _want(self, cache: DataCache, wanted: _Wanted) -> None:
        with self._mutex:
            new = [item for item in wanted.missing if item not in self._waiting]
            for item in wanted.missing:
                self._waiting.setdefault(item, []).append(wanted)
        _LOG.info("a chunk waits for %d shared data", len(wanted.missing), extra=wanted.job.ids)
        for item in new:
            self._fetches.submit(self._fetch, cache, item)
        if self._stopped.is_set():
            self._hand_over(wanted)

    def _fetch(self, cache: DataCache, item: Item) -> None:
        hold: Hold | None = None
        outcome: _Outcome
        try:
            outcome = hold = cache.fetch(item, self._stopped)
        except (DataUnusable, DataUnavailable, FetchStopped) as error:
            outcome = error
        with self._mutex:
            waiting = self._waiting.pop(item)
        for wanted in waiting:
            # Each has a hold of its own, while this one keeps the item where it is.
            mine = self._try(cache, item) if hold else outcome
            self._came(wanted, item, mine or DataUnavailable("shared data was removed from outside"))
        if hold:
            hold.release()

    def _came(self, wanted: _Wanted, item: Item, outcome: _Outcome) -> None:
        with self._mutex:
            late = wanted.handed_over
            if not late:
                wanted.outcomes[item] = outcome
                wanted.missing.discard(item)
            complete = not wanted.missing
        if late:
            if isinstance(outcome, Hold):
                outcome.release()
        elif complete:
            self._hand_over(wanted)

    def _hand_over(self, wanted: _Wanted) -> None:
        with self._mutex:
            if wanted.handed_over:
                return
            wanted.handed_over = True
        self._complete(wanted)
        self._loaded([wanted.job])

    def _complete(self, wanted: _Wanted) -> None:
        """Put paths into the events of a job; without all that it needs it has no task to run."""
        job = wanted.job
        held = {item: outcome for item, outcome in wanted.outcomes.items() if isinstance(outcome, Hold)}
        wanted.paths = {item: str(hold.path) for item, hold in held.items()}
        job.data = list(held.values())
        passing = [outcome for outcome in wanted.outcomes.values() if isinstance(outcome, DataUnavailable)]
        stopped = wanted.missing or any(isinstance(outcome, FetchStopped) for outcome in wanted.outcomes.values())
        if passing or stopped:
            job.release_data()
            job.pending.clear()
            job.isolated.clear()
            if passing:
                job.inputs_unavailable = True
                _LOG.warning("shared data cannot be had yet: %s", passing[0], extra=job.ids)
            return
        inputs = list(job.inputs)
        for offset, event in wanted.events.items():
            failure = wanted.failure(event)
            if failure:
                _fail_task(job, offset, failure)
            else:
                inputs[offset] = event.with_paths(wanted.path)
        job.inputs = inputs


_NOWHERE: Final = DataUnusable(
    "NoDataFolder",
    "The task refers to shared data, and its agent has no folder that workers see: set HTCGRID_DATA_DIR to one.",
)


def _fail_task(job: Job, offset: int, why: DataUnusable) -> None:
    for waiting in (job.pending, job.isolated):
        if offset in waiting:
            waiting.remove(offset)
    job.ends[offset] = Failed(FailureKind.INPUT, why.kind, str(why), final=True)
    task = job.chunk.first_task + offset
    _LOG.warning("a task failed: %s %s", FailureKind.INPUT, why.kind, extra={**job.ids, "task": task})
