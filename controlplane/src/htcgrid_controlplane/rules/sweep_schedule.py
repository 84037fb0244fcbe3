"""The schedule by which open sessions are checked for lost messages and events. Pure functions."""

import zlib
from datetime import timedelta

SWEEP_SHARDS = 4
"""Partition keys of the index of open sessions. A session is written there when it is created, swept and ended."""

INTERVAL = timedelta(minutes=5)
"""From a session's creation to its first sweep, and between sweeps. Shorter sessions are never swept."""

UNDRAINED = timedelta(hours=1)
"""While its task queue holds messages, a chunk that waits is most likely just waiting for its turn: sending its message
again is put off for so long, and then for as long again as the session is old. So a backlog is never multiplied."""


def sweep_shard_of(session_id: str) -> int:
    """In which part of the index of open sessions a session lies."""
    return zlib.crc32(session_id.encode()) % SWEEP_SHARDS


def next_sweep_at(now: int) -> int:
    """When (ms) a session is swept that is created or swept now."""
    return now + int(INTERVAL.total_seconds() * 1000)


def overdue(created_at: int, swept_at: int, now: int) -> bool:
    """Whether the rows of a session are looked at though its queue is not drained. All in ms; `swept_at` is when they
    last were, 0 for never."""
    since = max(created_at, swept_at)
    return now - since >= max(int(UNDRAINED.total_seconds() * 1000), since - created_at)
