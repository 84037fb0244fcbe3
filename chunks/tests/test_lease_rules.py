"""Which chunks are looked after, and which are given up: pure rules."""

from collections import Counter
from dataclasses import replace

import pytest
from tests.support.control_plane_harness import START, TENANT

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.lease_rules import (
    GIVE_UP_AFTER,
    LEASE_SHARDS,
    exceeds_lost_attempts,
    remedy,
    shard_of,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_events import LeaseAction, Stages

RUNNING = Chunk(
    key=ChunkKey("7" * 32, 0),
    tenant=TENANT,
    state=ChunkState.RUNNING,
    first_task=0,
    size=1,
    attempt=1,
    inputs=Payload(b""),
    outcomes="Q",
    claimable_at=START,
    stages=Stages(submitted_at=START - 9),
)


def test_the_chunks_of_one_session_spread_over_the_index() -> None:
    shards = Counter(shard_of(ChunkKey("0" * 32, chunk)) for chunk in range(16_000))
    assert set(shards) == set(range(LEASE_SHARDS))
    assert max(shards.values()) < 1.2 * min(shards.values())


def test_a_chunk_keeps_its_place_in_the_index() -> None:
    assert [shard_of(ChunkKey("0123456789abcdef" * 2, chunk)) for chunk in (0, 1, 127, 128)] == [7, 1, 5, 4]


@pytest.mark.parametrize(
    ("chunk", "found"),
    [
        (RUNNING, LeaseAction.REQUEUED),
        (replace(RUNNING, claimable_at=START + 1), None),
        (replace(RUNNING, attempt=9), LeaseAction.GIVEN_UP),
        (replace(RUNNING, attempt=9, claimable_at=START + 1), None),
        (replace(RUNNING, state=ChunkState.RETRY), LeaseAction.SENT_AGAIN),
        (replace(RUNNING, state=ChunkState.RETRY, claimable_at=START + 1), None),
        (replace(RUNNING, state=ChunkState.QUEUED, claimable_at=0), LeaseAction.SENT_AGAIN),
        (replace(RUNNING, state=ChunkState.QUEUED, stages=Stages(submitted_at=START + 1)), None),
        (replace(RUNNING, state=ChunkState.FINISHED, stages=Stages(finished_at=START)), LeaseAction.COUNTED),
        (replace(RUNNING, state=ChunkState.FINISHED, stages=Stages(finished_at=START + 1)), None),
    ],
)
def test_what_nobody_takes_care_of_is_seen_to(chunk: Chunk, found: LeaseAction | None) -> None:
    assert remedy(chunk, before=START) is found


def test_a_chunk_is_given_up_when_agents_keep_dying_without_a_sign() -> None:
    lost = [exceeds_lost_attempts(RUNNING, attempts) for attempts in range(GIVE_UP_AFTER + 3)]
    assert lost == [False] * (GIVE_UP_AFTER + 1) + [True, True]


@pytest.mark.parametrize("chunk", [replace(RUNNING, returned=100), replace(RUNNING, progressed=100)])
def test_any_sign_of_an_attempt_gives_a_chunk_more_of_them(chunk: Chunk) -> None:
    assert not exceeds_lost_attempts(chunk, 100 + GIVE_UP_AFTER)
    assert exceeds_lost_attempts(chunk, 101 + GIVE_UP_AFTER)
