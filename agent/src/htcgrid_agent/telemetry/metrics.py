"""The metrics of the agent, for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client import disable_created_metrics as _disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from htcgrid_events import FailureKind

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
COMPLETED: Final = "completed"
"""The `end` of a task that completed; others are a `FailureKind`."""

_TASK_SECONDS: Final = (0.001, 0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
_BATCH_SIZES: Final = (1, 2, 5, 10, 25)

# A time stamp for each counter would double the series of an agent.
_disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        tasks = self._counter("htcgrid_agent_tasks_total", "Tries of tasks, by how they ended.", "end")
        # Looking up a labelled counter costs four times as much as counting.
        self.tasks: Mapping[str, Counter] = {end: tasks.labels(end) for end in (COMPLETED, *FailureKind)}
        self.task_seconds = Histogram(
            "htcgrid_agent_task_seconds", "Duration of tries of tasks.", buckets=_TASK_SECONDS, registry=self._registry
        )
        self.chunks = self._counter("htcgrid_agent_chunks_total", "Chunks, by the result of their attempt.", "result")
        self.received = self._counter("htcgrid_agent_messages_total", "Messages received, by queue.", "queue")
        self.batch_size = Histogram(
            "htcgrid_agent_batch_size",
            "Items per batch request, by its kind.",
            ("batch",),
            buckets=_BATCH_SIZES,
            registry=self._registry,
        )
        self.refused = self._counter(
            "htcgrid_agent_refused_items_total", "Items that AWS refused for good, by kind of batch request.", "batch"
        )
        self.expired = self._counter(
            "htcgrid_agent_expired_payloads_total",
            "Payloads that had expired, which this agent removed from the store.",
        )
        self.data = self._counter(
            "htcgrid_agent_data_total", "Shared data that chunks asked for, by whether it was there.", "result"
        )
        self.data_bytes = Counter(
            "htcgrid_agent_data_fetched_bytes_total", "Bytes of shared data fetched.", registry=self._registry
        )
        self.data_evictions = Counter(
            "htcgrid_agent_data_evictions_total", "Shared data removed to make room.", registry=self._registry
        )
        self.requests = self._counter(
            "htcgrid_agent_requests_total", "Requests to AWS, by operation and error.", "operation", "error"
        )

    def add_gauge(self, name: str, text: str, label: str | None, read: Callable[[], Mapping[str, float]]) -> None:
        """Show a gauge. `read` gives its value for each value of `label`; without a label, for the empty string."""
        self._registry.register(_Gauge(name, text, label, read))

    def render(self) -> str:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry).decode()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)


class _Gauge(Collector):
    # Without `describe`, so that the registry accepts `htcgrid_agent_chunks` beside `htcgrid_agent_chunks_total`.

    def __init__(self, name: str, text: str, label: str | None, read: Callable[[], Mapping[str, float]]) -> None:
        self._name = name
        self._text = text
        self._labels = (label,) if label else ()
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the gauge."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for value, number in self._read().items():
            family.add_metric((value,) if self._labels else (), number)
        yield family
