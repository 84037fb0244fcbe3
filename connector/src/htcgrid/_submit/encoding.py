"""From the user's tasks to chunks that can be sent."""

from collections.abc import Iterable, Sequence, Sized

from htcgrid._submit.chunking import (
    AUTOMATIC_CHUNK_BYTES,
    CHOSEN_CHUNK_BYTES,
    SizeAt,
    automatic_size,
    growing_size,
)
from htcgrid._submit.json_line import json_line
from htcgrid._submit.packing import EncodedChunk, KnownChunks, Packer, pack
from htcgrid.errors import InvalidOption
from htcgrid.options import JSON
from htcgrid_dataplane import encode_lines
from htcgrid_events import MAX_TASKS_PER_CHUNK, DataReference


def check_chunk_size(chunk_size: int | None) -> None:
    """Raises `InvalidOption` for a chunk size that no chunk can have."""
    if chunk_size is None:
        return
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or not 1 <= chunk_size <= MAX_TASKS_PER_CHUNK:
        raise InvalidOption(
            f"chunk_size={chunk_size!r} is not legal: give a whole number from 1 to {MAX_TASKS_PER_CHUNK:,}, "
            "or None to have it chosen"
        )


class Encoder:
    """Numbers the chunks and tasks of one session, which may be fed several times.

    A list is always cut alike, so that its submission may be repeated. How other sources are cut depends on their pace
    as well: their repetition is cut like the chunks that the grid has already.
    """

    def __init__(self) -> None:
        self.chunks = 0
        self.tasks = 0
        self.known = KnownChunks(())
        """Chunks that the grid has already, of a submission that is repeated."""

    def encode(self, tasks: Sequence[JSON], chunk_size: int | None) -> list[list[EncodedChunk]]:
        """The next tasks, which all lie in memory, as batches of chunks that travel together.

        Raises:
            InvalidTask: a task is not JSON.
            PayloadTooLarge: a task is too large.
        """
        packer = self.packer(tasks, chunk_size)
        lines = [json_line(index, task) for index, task in enumerate(tasks, self.tasks)]  # before any is numbered
        return list(pack(lines, packer))

    def packer(self, tasks: Iterable[JSON], chunk_size: int | None, largest: int | None = None) -> Packer:
        """Packs the next tasks, whose number may be known, into batches. Chunks whose size is not given hold
        `largest` tasks at most."""
        size_at, most = _sizes(tasks, chunk_size, largest or MAX_TASKS_PER_CHUNK)
        return Packer(self, size_at, most)

    def number(self, lines: list[bytes], data: Sequence[DataReference]) -> EncodedChunk:
        """The next chunk, of these encoded tasks, which refer to this data."""
        chunk = EncodedChunk(self.chunks, self.tasks, len(lines), encode_lines(lines), data)
        self.chunks += 1
        self.tasks += len(lines)
        return chunk


def _sizes(tasks: Iterable[JSON], chunk_size: int | None, largest: int) -> tuple[SizeAt, int]:
    """How many tasks, and bytes of them, a chunk may hold."""
    if chunk_size is not None:
        return (lambda _first: chunk_size), CHOSEN_CHUNK_BYTES
    if isinstance(tasks, Sized):
        size = automatic_size(len(tasks))
        return (lambda _first: size), AUTOMATIC_CHUNK_BYTES
    return (lambda first: min(largest, growing_size(first))), AUTOMATIC_CHUNK_BYTES
