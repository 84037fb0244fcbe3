"""Encoded tasks packed into chunks, and chunks into batches that travel together."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from htcgrid._submit.chunking import SizeAt
from htcgrid._submit.references import References, references_of
from htcgrid_events import BUCKET_SIZE, INLINE_BYTES, MAX_DATA_PER_REQUEST, DataReference

BATCH_CHUNKS = BUCKET_SIZE
"""Chunks in one request: those of one bucket, so that no two requests move the same row of the account."""

BATCH_BYTES = 2 * 1024 * 1024
"""Encoded inputs in one request or round of uploads: well below a request's limit also in base64, and what bounds
the connector's memory, since a few of them are on their way at a time."""

BATCH_AGE = timedelta(milliseconds=250)
"""How long a slow stream of tasks may hold back those that are ready."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk with its inputs as they travel."""

    chunk: int
    first_task: int
    size: int
    inputs: bytes
    data: Sequence[DataReference] = ()
    """The shared data to which its tasks refer."""

    @property
    def inline(self) -> bool:
        """Whether the inputs are small enough to lie in the request."""
        return len(self.inputs) <= INLINE_BYTES


@dataclass(frozen=True, slots=True)
class KnownChunks:
    """Chunks that the grid has of a submission that is repeated. How a slow source is cut depends on its pace, so the
    repetition is cut like them."""

    records: Sequence[tuple[int, int, int]]
    """Number, first task and size of each, in their order. Some may be missing between them."""

    def size_of(self, chunk: int, first_task: int) -> int | None:
        """How many tasks this chunk must hold; None behind the last chunk that is known."""
        position = bisect_left(self.records, (chunk,))
        if position == len(self.records):
            return None
        number, known_first, size = self.records[position]
        return size if number == chunk else max(1, (known_first - first_task) // (number - chunk))


class Numbering(Protocol):
    """Gives chunks their numbers: the session's `Encoder`."""

    chunks: int
    tasks: int
    known: KnownChunks

    def number(self, lines: list[bytes], data: Sequence[DataReference]) -> EncodedChunk:
        """The next chunk, of these encoded tasks, which refer to this data."""


class Packer:
    """Takes encoded tasks one by one and gives batches as they are full. A batch never crosses the border between two
    buckets."""

    def __init__(
        self, numbering: Numbering, size_at: SizeAt, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._numbering = numbering
        self._size_at = size_at
        self._max_bytes = max_bytes
        self._clock = clock
        self._lines: list[bytes] = []
        self._line_bytes = 0
        self._data: References = {}
        self._batch: list[EncodedChunk] = []
        self._batch_bytes = 0
        self._batch_data: set[str] = set()
        self._since: float | None = None

    @property
    def age(self) -> float | None:
        """For how many seconds the oldest task waits; None if none does."""
        return None if self._since is None else self._clock() - self._since

    def rejuvenate(self) -> None:
        """Let the wait of what is here begin now: the network was slow meanwhile, and not the source."""
        if self._since is not None:
            self._since = self._clock()

    def add(self, line: bytes) -> list[list[EncodedChunk]]:
        """Take one more task. Gives the batches that are full by it."""
        full: list[list[EncodedChunk]] = []
        exact = self._numbering.known.size_of(self._numbering.chunks, self._numbering.tasks)
        data = references_of(line, self._numbering.tasks + len(self._lines))
        if self._lines and exact is None and not self._fits(line, data):
            self._end_chunk(full)
        if self._since is None:
            self._since = self._clock()
        self._lines.append(line)
        self._line_bytes += len(line) + 1
        self._data |= data
        if len(self._lines) >= (exact or self._size_at(self._numbering.tasks)):
            self._end_chunk(full)
        return full

    def take(self, *, last: bool) -> list[list[EncodedChunk]]:
        """All that is here as batches, also tasks whose chunk is not full. A chunk that the grid knows is not ended
        early, unless these tasks are the `last` ones."""
        found: list[list[EncodedChunk]] = []
        numbering = self._numbering
        if self._lines and (last or numbering.known.size_of(numbering.chunks, numbering.tasks) is None):
            self._end_chunk(found)
        if self._batch:
            found.append(self._take_batch())
        return found

    def _fits(self, line: bytes, data: References) -> bool:
        """Whether a task has room in the chunk that is being filled."""
        if data and len(self._data | data) > MAX_DATA_PER_REQUEST:
            return False
        return self._line_bytes + len(line) <= self._max_bytes

    def _end_chunk(self, full: list[list[EncodedChunk]]) -> None:
        chunk = self._numbering.number(self._lines, tuple(self._data.values()))
        batch_data = self._batch_data | self._data.keys()
        too_large = self._batch_bytes + len(chunk.inputs) > BATCH_BYTES
        if self._batch and (too_large or len(batch_data) > MAX_DATA_PER_REQUEST):
            full.append(self._take_batch())
            batch_data = set(self._data)
        self._lines, self._line_bytes, self._data = [], 0, {}
        self._batch.append(chunk)
        self._batch_bytes += len(chunk.inputs)
        self._batch_data = batch_data
        if (chunk.chunk + 1) % BATCH_CHUNKS == 0:
            full.append(self._take_batch())

    def _take_batch(self) -> list[EncodedChunk]:
        batch, self._batch, self._batch_bytes, self._batch_data = self._batch, [], 0, set()
        self._since = self._clock() if self._lines else None
        return batch


def pack(lines: Iterable[bytes], packer: Packer) -> Iterator[list[EncodedChunk]]:
    """Batches of encoded tasks, made as they are asked for."""
    for line in lines:
        yield from packer.add(line)
    yield from packer.take(last=True)
