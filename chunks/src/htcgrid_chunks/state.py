"""The states of a chunk, and which may follow which. The store encodes the rule as conditions."""

from enum import StrEnum


class ChunkState(StrEnum):
    """The state of a chunk's row. The outcomes of its tasks are kept beside it, a letter each."""

    QUEUED = "QUEUED"
    PAUSED = "PAUSED"
    """Its session is paused: it has no message and cannot be claimed."""
    RUNNING = "RUNNING"
    RETRY = "RETRY"
    FINISHED = "FINISHED"


CHUNK_TRANSITIONS: dict[ChunkState, frozenset[ChunkState]] = {
    ChunkState.QUEUED: frozenset({ChunkState.RUNNING, ChunkState.PAUSED, ChunkState.FINISHED}),
    ChunkState.PAUSED: frozenset({ChunkState.QUEUED, ChunkState.FINISHED}),
    ChunkState.RUNNING: frozenset({ChunkState.RUNNING, ChunkState.RETRY, ChunkState.FINISHED}),
    ChunkState.RETRY: frozenset({ChunkState.RUNNING, ChunkState.PAUSED, ChunkState.FINISHED}),
    ChunkState.FINISHED: frozenset({ChunkState.QUEUED, ChunkState.PAUSED}),
}
