"""Checks that the chunks of a session hold each of its tasks once, in the order of their numbers. Pure functions.

Chunk 0 begins with task 0, and each chunk begins where the one before it ends. Of a request this is seen chunk by
chunk. Of a whole session it is seen bucket by bucket: each bucket's account keeps a sum over the ends of its chunks,
in which the ends of neighbours that fit cancel each other.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from htcgrid_events import BUCKET_SIZE, MAX_TASKS_PER_CHUNK, Totals


@dataclass(frozen=True, order=True)
class Span:
    """The tasks of one chunk."""

    chunk: int
    first_task: int
    size: int

    @property
    def end(self) -> int:
        """The task with which the next chunk begins."""
        return self.first_task + self.size


@dataclass(frozen=True)
class BucketSpans:
    """What a bucket's account knows of its chunks."""

    bucket: int
    chunks: int
    tasks: int
    edges: int | None
    """`sum_of_edges` of its chunks; none of a bucket that a release began which did not count it."""


def sum_of_edges(spans: Iterable[Span]) -> int:
    """A sum in which only the outer edges are left of chunks that follow each other without gap or overlap."""
    return sum(_edge(span.chunk, span.first_task) - _edge(span.chunk + 1, span.end) for span in spans)


def fault_within(spans: Iterable[Span], totals: Totals | None) -> str | None:
    """What is wrong with these chunks, which need not be all, as a sentence; none if nothing is."""
    ordered = sorted(spans)
    if totals is not None:
        if ordered and ordered[-1].chunk >= totals.chunks:
            return f"The session holds {totals.chunks} chunks, so there is no chunk {ordered[-1].chunk}."
        ordered.append(Span(totals.chunks, totals.tasks, 0))
    return _fault_between(Span(-1, 0, 0), ordered, totals)


def fault_in_bucket(first_task: int, spans: Iterable[Span]) -> str | None:
    """What is wrong with the chunks of a bucket that begins with `first_task`, as a sentence; none if nothing is."""
    ordered = sorted(spans)
    return _fault_between(Span(ordered[0].chunk - 1, first_task, 0), ordered, None) if ordered else None


def torn_bucket(buckets: Sequence[BucketSpans]) -> tuple[int, int] | None:
    """The first bucket, of all of a session in their order, whose chunks do not follow each other, and the task with
    which it should begin; none if every task is held once. No chunk may be missing."""
    first_task = 0
    for bucket in buckets:
        first_chunk = bucket.bucket * BUCKET_SIZE
        beyond = first_task + bucket.tasks
        whole = _edge(first_chunk, first_task) - _edge(first_chunk + bucket.chunks, beyond)
        if bucket.edges not in (None, whole):
            return bucket.bucket, first_task
        first_task = beyond
    return None


def _fault_between(before: Span, ordered: Iterable[Span], totals: Totals | None) -> str | None:
    for span in ordered:
        skipped = span.chunk - before.chunk - 1
        least, most = before.end + skipped, before.end + skipped * MAX_TASKS_PER_CHUNK
        if not least <= span.first_task <= most:
            return _sentence(before, span, skipped, totals)
        before = span
    return None


def _sentence(before: Span, span: Span, skipped: int, totals: Totals | None) -> str:
    if totals is not None and span.chunk == totals.chunks:
        what = f"the session holds {totals.tasks} tasks in {totals.chunks} chunks"
    else:
        what = f"chunk {span.chunk} begins with task {span.first_task}"
    if skipped:
        least, most = before.end + skipped, before.end + skipped * MAX_TASKS_PER_CHUNK
        return (
            f"Tasks overlap or are missing before chunk {span.chunk}: {what}, "
            f"but {skipped} chunks of 1 to {MAX_TASKS_PER_CHUNK} tasks before it make that {least} to {most}."
        )
    ended = f"chunk {before.chunk} ends with task {before.end - 1}" if before.chunk >= 0 else "the first task is 0"
    if span.first_task > before.end:
        return f"No chunk holds the tasks {before.end} to {span.first_task - 1}: {what}, but {ended}."
    return f"Chunks overlap in the tasks {span.first_task} to {before.end - 1}: {what}, but {ended}."


def _edge(chunk: int, task: int) -> int:
    """A number of 64 bits for the place where a chunk begins. The sum of a bucket has 22 digits at most, which every
    store of numbers keeps: DynamoDB 38, the embedded AWS 28."""
    return int.from_bytes(hashlib.blake2b(f"{chunk}/{task}".encode(), digest_size=8).digest())
