"""Numbers about this agent, in the text format of Prometheus. One module for the few kinds that are needed."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


class Counter:
    """A number that only grows, for each value of its labels."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self.name = name
        self.text = text
        self._labels = labels
        self._lock = threading.Lock()
        self._values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, amount: float, *values: str) -> None:
        """Count `amount` more."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount

    def lines(self) -> Iterator[str]:
        """What Prometheus reads."""
        with self._lock:
            values = dict(self._values)
        for key, value in values.items():
            yield f"{self.name}{_labelled(self._labels, key)} {value:g}"


class Gauge:
    """Numbers that are asked for when somebody looks. `read` gives one for each value of the label, if there is one."""

    kind = "gauge"

    def __init__(self, name: str, text: str, label: str | None, read: Callable[[], Mapping[str, float]]) -> None:
        self.name = name
        self.text = text
        self._labels: Labels = (label,) if label else ()
        self._read = read

    def lines(self) -> Iterator[str]:
        """What Prometheus reads."""
        for key, value in self._read().items():
            yield f"{self.name}{_labelled(self._labels, (key,) if self._labels else ())} {value:g}"


class Histogram:
    """How often values fell below each bound."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self.name = name
        self.text = text
        self._bounds = tuple(bounds)
        self._labels = labels
        self._lock = threading.Lock()
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, *values: str) -> None:
        """Count one value."""
        with self._lock:
            counts = self._counts.get(values)
            if counts is None:
                counts = self._counts[values] = [0] * (len(self._bounds) + 1)
                self._sums[values] = 0.0
            counts[bisect_left(self._bounds, value)] += 1
            self._sums[values] += value

    def lines(self) -> Iterator[str]:
        """What Prometheus reads."""
        with self._lock:
            rows = [(key, list(counts), self._sums[key]) for key, counts in self._counts.items()]
        names = (*self._labels, "le")
        for key, counts, total in rows:
            below = 0
            for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), counts, strict=True):
                below += count
                yield f"{self.name}_bucket{_labelled(names, (*key, bound))} {below}"
            yield f"{self.name}_sum{_labelled(self._labels, key)} {total:g}"
            yield f"{self.name}_count{_labelled(self._labels, key)} {below}"


class Registry:
    """All metrics of the agent."""

    def __init__(self) -> None:
        self.tasks = Counter("htcgrid_agent_tasks_total", "Tries of tasks, by how they ended.", ("end",))
        self.task_seconds = Histogram(
            "htcgrid_agent_task_seconds",
            "How long tries of tasks took.",
            (0.001, 0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
        )
        self.chunks = Counter("htcgrid_agent_chunks_total", "Chunks, by what became of their attempt.", ("result",))
        self.received = Counter("htcgrid_agent_messages_total", "Messages received, by queue.", ("queue",))
        self.batch_size = Histogram(
            "htcgrid_agent_batch_size", "Items per batch, by its kind.", (1, 2, 5, 10, 25), ("batch",)
        )
        self.requests = Counter(
            "htcgrid_agent_requests_total", "Requests to AWS, by operation and error.", ("operation", "error")
        )
        self._gauges: list[Gauge] = []

    def gauge(self, name: str, text: str, label: str | None, read: Callable[[], Mapping[str, float]]) -> None:
        """Show numbers that `read` gives."""
        self._gauges.append(Gauge(name, text, label, read))

    def render(self) -> str:
        """All of it, as Prometheus reads it."""
        metrics: Iterable[Counter | Gauge | Histogram] = (
            self.tasks,
            self.task_seconds,
            self.chunks,
            self.received,
            self.batch_size,
            self.requests,
            *self._gauges,
        )
        return "".join(
            f"# HELP {metric.name} {metric.text}\n# TYPE {metric.name} {metric.kind}\n"
            + "".join(f"{line}\n" for line in metric.lines())
            for metric in metrics
        )


def _labelled(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
