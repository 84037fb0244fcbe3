"""Rules for leases that have expired and for chunks whose message or event was lost. Pure functions."""

import zlib
from datetime import timedelta

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_events import ChunkRecovered, LeaseAction

LEASE_SHARDS = 16
"""Partition keys of the index of leases. Each takes 1,000 writes a second ("Quotas in Amazon DynamoDB"). A heartbeat
moves an entry, which is two; with one every 20 s that is enough for 160,000 chunks at once."""

GRACE = timedelta(seconds=30)
"""How long a lease is left alone after its end. SQS shows the message of a dead agent's chunk again a second after it,
and whoever receives that claims the chunk: only what it does not bring back is looked for."""

OVERDUE = timedelta(seconds=60)
"""How long a chunk whose message or event may be on its way is left alone."""

CAREFUL_AFTER = 2
"""After so many attempts in a row that died, tasks are run one by one, and each is marked before it runs: once is an
accident, a host that was taken away, an agent that was killed."""

GIVE_UP_AFTER = CAREFUL_AFTER + 3
"""After more attempts in a row that died without a sign, which is not for want of marks, a chunk is given up: agents
die before they can run any task of it."""


def shard_of(key: ChunkKey) -> int:
    """In which part of the index the lease of a chunk lies."""
    return zlib.crc32(f"{key.partition_key}/{key.chunk}".encode()) % LEASE_SHARDS


def exceeds_lost_attempts(chunk: Chunk, attempts: int) -> bool:
    """Whether a chunk of which so many attempts are over is to be given up.

    Whatever an attempt leaves behind counts as a sign: an orderly end, the outcome of a task, the mark of one that it
    was about to run. A task that kills its agents is found by its marks; this is for chunks that never get so far.
    """
    return attempts - max(chunk.returned, chunk.progressed) > GIVE_UP_AFTER


def lost_message(attempts: int) -> str:
    """The error message of tasks whose chunk was given up after so many attempts."""
    return f"{attempts} attempts at the task's chunk ended without a word, with their agents."


def recovered(chunk: Chunk, action: LeaseAction) -> ChunkRecovered:
    """The event that says what was done about a chunk."""
    return ChunkRecovered(
        session_id=chunk.key.session_id,
        tenant=chunk.tenant,
        chunk=chunk.key.chunk,
        attempt=chunk.attempt,
        agent=chunk.owner,
        action=action,
    )


def remedy(chunk: Chunk, before: int) -> LeaseAction | None:
    """What a chunk needs that has been left alone since `before` (ms); nothing if somebody takes care of it."""
    match chunk.state:
        case ChunkState.RUNNING if chunk.claimable_at <= before:
            return LeaseAction.GIVEN_UP if exceeds_lost_attempts(chunk, chunk.attempt) else LeaseAction.REQUEUED
        case ChunkState.RETRY if chunk.claimable_at <= before:
            return LeaseAction.SENT_AGAIN
        case ChunkState.QUEUED if max(chunk.stages.submitted_at, chunk.claimable_at) <= before:
            return LeaseAction.SENT_AGAIN
        case ChunkState.FINISHED if chunk.stages.finished_at <= before:
            return LeaseAction.COUNTED
        case _:
            return None
