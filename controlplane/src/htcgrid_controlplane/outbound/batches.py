"""Splits entries into batches that fit into one request."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Entry = TypeVar("_Entry")


def batches(
    entries: Sequence[_Entry], size_of: Callable[[_Entry], int], max_entries: int, max_bytes: int
) -> Iterator[list[_Entry]]:
    """Batches of entries, in their order, each of at most `max_entries` and `max_bytes`. An entry that is larger by
    itself is a batch of its own: its service refuses it without refusing others."""
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        more = size_of(entry)
        if batch and (len(batch) == max_entries or size + more > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += more
    if batch:
        yield batch
