"""Workloads that a partition may have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Chunk:
    """A chunk of equal tasks."""

    tasks: int
    seconds: float
    """Of each task."""
    left: float = field(init=False)
    """Worker seconds that it still needs."""

    def __post_init__(self) -> None:
        self.left = self.tasks * self.seconds


@dataclass(frozen=True)
class Burst:
    """Equal chunks that arrive together."""

    at: int
    """Seconds after the beginning."""
    chunks: int
    tasks: int
    """Of each chunk."""
    seconds: float
    """Of each task."""

    def made(self) -> Iterator[Chunk]:
        """Its chunks."""
        return (Chunk(self.tasks, self.seconds) for _ in range(self.chunks))


_HOUR = 3600
WORKLOADS: dict[str, Sequence[Burst]] = {
    "short": [Burst(at, 20, 500, 0.001) for at in range(0, _HOUR, 600)],
    "long": [Burst(0, 200, 1, _HOUR)],
    "bursts": [Burst(at, 2_000, 50, 0.1) for at in range(0, _HOUR, 600)],
    "heavy": [Burst(at, 40, 500, 1) for at in range(0, _HOUR, 1200)],
    "mixed": [*(Burst(at, 200, 50, 0.02) for at in range(0, _HOUR, 60)), Burst(300, 60, 1, 1800)],
}
"""By name. docs/scaling.md says what each stands for."""
