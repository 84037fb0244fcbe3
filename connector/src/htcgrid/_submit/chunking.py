"""How many tasks a chunk holds, when the user does not say: pure arithmetic.

A chunk costs the grid three writes and a message, however many tasks it holds, so larger chunks mean more tasks per
second. But a chunk runs on one worker, so fewer chunks mean idle workers, and a long last chunk. Nothing is known of
how long the tasks take or how many workers there are. Hence, of N tasks:

- up to 127, each is a chunk of its own: latency and spread come first;
- then the chunks grow and there are never fewer than 64 of them, so that 64 workers have something to do;
- from 4,096 on they grow with the square root of N, up to 500, where a chunk's fixed cost no longer shows.
"""

from collections.abc import Callable
from math import isqrt

FEWEST_CHUNKS = 64
"""Chunks over which the tasks of a larger session are spread at least."""

LARGEST_AUTOMATIC_CHUNK = 500
"""Tasks: the cost of a chunk is then below a hundredth of a millisecond per task."""

AUTOMATIC_CHUNK_BYTES = 256 * 1024
"""JSON text that a chunk of automatic size holds at most, so that large events travel and run apart."""

CHOSEN_CHUNK_BYTES = 16 * 1024 * 1024
"""JSON text that a chunk of a size chosen by the user holds at most, for the sake of the agent's memory."""

SizeAt = Callable[[int], int]
"""From the number of a chunk's first task to the most tasks that it may hold."""


def automatic_size(tasks: int) -> int:
    """Tasks per chunk in a session of so many."""
    return max(1, min(tasks // FEWEST_CHUNKS, isqrt(tasks), LARGEST_AUTOMATIC_CHUNK))


def growing_size(first_task: int) -> int:
    """Tasks in the chunk that begins with this one, in a session whose length is not known yet.

    Every chunk holds at most a sixty-fourth of what came before it: wherever the stream ends, the last chunk is small
    beside the whole.
    """
    return max(1, min(first_task // FEWEST_CHUNKS, LARGEST_AUTOMATIC_CHUNK))
