"""From the user's tasks to chunks that can be sent."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from datetime import timedelta

from htcgrid._submit.chunking import (
    AUTOMATIC_CHUNK_BYTES,
    CHOSEN_CHUNK_BYTES,
    SizeAt,
    automatic_size,
    cut,
    growing_size,
)
from htcgrid._submit.json_line import json_line
from htcgrid.errors import InvalidOption
from htcgrid.options import JSON
from htcgrid_dataplane import encode_lines
from htcgrid_events import BUCKET_SIZE, INLINE_BYTES, MAX_TASKS_PER_CHUNK

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

    @property
    def inline(self) -> bool:
        """Whether the inputs are small enough to lie in the request."""
        return len(self.inputs) <= INLINE_BYTES


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

    The same tasks, given in the same form, are always cut alike; so a submission may be repeated.
    """

    def __init__(self) -> None:
        self.chunks = 0
        self.tasks = 0

    def encode(
        self, tasks: Iterable[JSON], chunk_size: int | None, largest: int | None = None
    ) -> "Iterator[list[EncodedChunk]]":
        """The next tasks as batches of chunks that travel together, made as they are asked for.

        Chunks whose size is not given hold `largest` tasks at most. Tasks that all lie in memory are encoded before
        this returns, so that nothing is sent when one is wrong.

        Raises:
            InvalidTask: a task is not JSON.
            PayloadTooLarge: a task is too large.
        """
        size_at, most = _sizes(tasks, chunk_size, largest or MAX_TASKS_PER_CHUNK)
        lines = (json_line(index, task) for index, task in enumerate(tasks, self.tasks))
        parts: Iterable[list[bytes]] = cut(lines, size_at, most, first_task=self.tasks)
        if isinstance(tasks, Sequence):
            parts = list(parts)
        return batches(self.number(parts))

    def number(self, parts: Iterable[list[bytes]]) -> Iterator[EncodedChunk]:
        """Chunks of these encoded tasks."""
        for part in parts:
            chunk = EncodedChunk(self.chunks, self.tasks, len(part), encode_lines(part))
            self.chunks += 1
            self.tasks += len(part)
            yield chunk


def _sizes(tasks: Iterable[JSON], chunk_size: int | None, largest: int) -> tuple[SizeAt, int]:
    """How many tasks, and bytes of them, a chunk may hold."""
    if chunk_size is not None:
        return (lambda _first: chunk_size), CHOSEN_CHUNK_BYTES
    if isinstance(tasks, Sized):
        size = automatic_size(len(tasks))
        return (lambda _first: size), AUTOMATIC_CHUNK_BYTES
    return (lambda first: min(largest, growing_size(first))), AUTOMATIC_CHUNK_BYTES


def batches(
    chunks: Iterable[EncodedChunk], clock: Callable[[], float] = time.monotonic
) -> Iterator[list[EncodedChunk]]:
    """Chunks that travel together. A batch never crosses the border between two buckets."""
    batch: list[EncodedChunk] = []
    held = 0
    began = clock()
    for chunk in chunks:
        full = batch and (
            chunk.chunk % BATCH_CHUNKS == 0
            or held + len(chunk.inputs) > BATCH_BYTES
            or clock() - began > BATCH_AGE.total_seconds()
        )
        if full:
            yield batch
            batch, held = [], 0
        if not batch:
            began = clock()
        batch.append(chunk)
        held += len(chunk.inputs)
    if batch:
        yield batch
