"""How far a lazy submission runs ahead of its reader."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from htcgrid._submit.encoding import check_chunk_size
from htcgrid._submit.tables import tasks_of
from htcgrid.errors import InvalidOption
from htcgrid.options import JSON

if TYPE_CHECKING:
    from htcgrid._submit.encoding import Encoder
    from htcgrid._submit.packing import EncodedChunk

CHUNKS_IN_WINDOW = 16
"""A window holds so many chunks at least, so that workers have something to do while results are taken."""

REFILL = 4
"""A window is filled again when a quarter of it is free: often enough, and in chunks of some size."""


def check_buffersize(size: int) -> None:
    """Raises `InvalidOption` for what is no number of tasks."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidOption(f"buffersize={size!r} is not legal: give a whole number of tasks from 1 up")


class Window:
    """Draws tasks from an iterable, so that never more than `size` of them are sent and not yet taken."""

    def __init__(self, tasks: Iterable[JSON], encoder: "Encoder", size: int, chunk_size: int | None) -> None:
        check_buffersize(size)
        check_chunk_size(chunk_size)
        tasks = tasks_of(tasks)
        self._tasks = iter(tasks)
        self._encoder = encoder
        self._size = size
        self._chunk_size = chunk_size
        self.taken = 0
        """Tasks whose results the reader has taken."""
        self.exhausted = False
        """Whether all tasks were drawn."""

    def batches(self) -> "Iterator[list[EncodedChunk]]":
        """What may be sent now."""
        while not self.exhausted:
            room = self._size - (self._encoder.tasks - self.taken)
            if room < max(1, self._size // REFILL) or room == 0:
                return
            drawn = self._encoder.tasks
            most = max(1, self._size // CHUNKS_IN_WINDOW)
            yield from self._encoder.encode(islice(self._tasks, room), self._chunk_size, most)
            self.exhausted = self._encoder.tasks - drawn < room
