"""Counters and times of the first HTC-Grid, without its InfluxDB: what was sent there is logged at level DEBUG."""

import logging
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

_log = logging.getLogger(__name__)


def get_time_now_ms() -> int:
    """The time in milliseconds since 1970."""
    return round(time.time() * 1000)


class EventsCounter:
    """Counts events by name. Names that begin with `str` hold texts."""

    def __init__(self, expected_events: Iterable[str] | None = None) -> None:
        self.expected_events = list(expected_events or ())
        self.evcounter: dict[str, int | str] = {}
        self.reset()

    def increment(self, event_name: str, value: int = 1) -> None:
        """Add to a counter."""
        before = self.get_counter(event_name)
        self.evcounter[event_name] = (before if isinstance(before, int) else 0) + value

    def set(self, event_name: str, value: int | str) -> None:
        """Set a counter or a text."""
        self.evcounter[event_name] = value

    def get_counter(self, name: str) -> int | str:
        """A counter or a text; 0 or empty where there is none."""
        return self.evcounter.get(name, _nothing(name))

    def reset(self) -> None:
        """Begin again, with the expected events alone."""
        self.evcounter = {name: _nothing(name) for name in self.expected_events}


class PerformanceTracker:
    """Logs how long the stages of a task took, and what was counted meanwhile."""

    def __init__(self, buffered_storage_connector: object = None) -> None:
        """The argument is not used any more."""

    def add_metric_sample(
        self,
        stats_dic: Mapping[str, Mapping[str, Any]],
        event_counter: EventsCounter | None,
        from_event: str,
        to_event: str,
        event_time: str | None = None,
    ) -> None:
        """Log the times in ms between the stages from `from_event` to `to_event`, and reset the counter."""
        stages = [stats_dic[name] for name in sorted(stats_dic) if from_event <= name <= to_event]
        sample: dict[str, Any] = {
            after["label"]: after["tstmp"] - before["tstmp"] for before, after in pairwise(stages)
        }
        if event_counter is not None:
            sample |= event_counter.evcounter
            event_counter.reset()
        _log.debug("performance sample: %s", sample)

    def submit_measurements(self) -> None:
        """Do nothing: samples are logged as they come."""


def performance_tracker_initializer(
    metrics_are_enabled: str | int = 0, connection_string: str = "", influxdb_ip: str = ""
) -> PerformanceTracker:
    """A tracker. The arguments are not used any more: the grid's own metrics tell of its tasks."""
    return PerformanceTracker()


def _nothing(name: str) -> int | str:
    return "" if name.startswith("str") else 0
