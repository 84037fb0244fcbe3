"""Tells downstream systems, over the event bus."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_events import DETAIL_TYPES, SOURCE, Contract

if TYPE_CHECKING:
    from mypy_boto3_events.client import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

_MAX_ENTRIES = 10
"""Most events in one PutEvents (Amazon EventBridge API Reference)."""


class EventBus:
    """The grid's event bus."""

    def __init__(self, client: "EventBridgeClient", name: str) -> None:
        self._client = client
        self._name = name

    def put(self, events: Sequence[tuple[str, Contract]]) -> None:
        """Put events (detail type, detail) on the bus.

        Raises:
            StorageUnavailable: EventBridge refused one; the caller is to repeat the whole step.
        """
        for start in range(0, len(events), _MAX_ENTRIES):
            entries = [self._entry(name, detail) for name, detail in events[start : start + _MAX_ENTRIES]]
            response = self._client.put_events(Entries=entries)
            if response["FailedEntryCount"]:
                codes = {entry["ErrorCode"] for entry in response["Entries"] if "ErrorCode" in entry}
                raise StorageUnavailable(f"EventBridge refused {response['FailedEntryCount']} events: {sorted(codes)}")

    def _entry(self, name: str, detail: Contract) -> "PutEventsRequestEntryTypeDef":
        if not isinstance(detail, DETAIL_TYPES[name]):
            raise TypeError(f"the event {name!r} has a {DETAIL_TYPES[name].__name__}, not {type(detail).__name__}")
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": name,
            "Detail": detail.model_dump_json(),
        }
