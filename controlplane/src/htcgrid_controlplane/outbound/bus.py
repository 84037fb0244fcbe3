"""Puts events on the grid's event bus, for downstream systems and for the workflows."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.outbound.batches import batches
from htcgrid_controlplane.outbound.metrics import CountMetric, count_nothing
from htcgrid_events import SOURCE, BusEvent

if TYPE_CHECKING:
    from mypy_boto3_events.client import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef, PutEventsResultEntryTypeDef

_LOG = logging.getLogger(__name__)
_MAX_ENTRIES = 10
"""Most events in one PutEvents (Amazon EventBridge API Reference)."""
_MAX_BYTES = 256 * 1024
"""Most bytes of all events in one PutEvents ("Calculating PutEvents event entry size", EventBridge User Guide)."""
_REFUSED_FOR_GOOD = frozenset({"InvalidArgument", "MalformedDetail", "RedactionFailure"})
"""Error codes that speak of the event itself. All others pass, if only after somebody has mended a permission."""
_BACKOFF = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=1))
_TRIES = 5


class EventBus:
    """The grid's event bus."""

    def __init__(
        self,
        client: "EventBridgeClient",
        name: str,
        count: CountMetric = count_nothing,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._count = count
        self._sleep = sleep

    def put(self, events: Sequence[BusEvent]) -> None:
        """Put events on the bus. One that is refused for good is logged, counted and left out.

        Raises:
            StorageUnavailable: EventBridge kept refusing one for another reason, after all others were sent; the caller
                is to repeat the whole step.
        """
        kept_failing: list[str] = []
        for batch in batches([self._entry(event) for event in events], _size, _MAX_ENTRIES, _MAX_BYTES):
            kept_failing += self._put_some(batch)
        if kept_failing:
            raise StorageUnavailable(f"EventBridge refused {len(kept_failing)} events: {sorted(set(kept_failing))}")

    def _put_some(self, entries: "list[PutEventsRequestEntryTypeDef]") -> list[str]:
        """Put events, and again those that were refused. Returns the error codes of those that kept failing."""
        for retry in range(1, _TRIES + 1):
            answers = self._client.put_events(Entries=entries)["Entries"]
            failed = [(entry, answer) for entry, answer in zip(entries, answers, strict=True) if "ErrorCode" in answer]
            again = [(entry, answer) for entry, answer in failed if not self._refused_for_good(entry, answer)]
            if not again:
                return []
            entries = [entry for entry, _ in again]
            if retry < _TRIES:
                self._sleep(_BACKOFF.wait(retry, random.random).total_seconds())
        return [answer["ErrorCode"] for _, answer in again]

    def _refused_for_good(self, entry: "PutEventsRequestEntryTypeDef", answer: "PutEventsResultEntryTypeDef") -> bool:
        if answer["ErrorCode"] not in _REFUSED_FOR_GOOD:
            return False
        self._count("EventsRefused", 1)
        _LOG.error(
            "an event was refused for good",
            extra={"detail_type": entry.get("DetailType"), "code": answer["ErrorCode"]},
        )
        return True

    def _entry(self, event: BusEvent) -> "PutEventsRequestEntryTypeDef":
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Detail": event.to_json(),
        }


def _size(entry: "PutEventsRequestEntryTypeDef") -> int:
    return len(entry["Detail"]) + len(entry["DetailType"]) + len(SOURCE)
