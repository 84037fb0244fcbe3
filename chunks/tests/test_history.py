"""What is kept of tries that failed."""

import zlib
from hashlib import shake_128

import pytest
from tests.support.control_plane_harness import TENANT, Harness
from tests.support.hostile import MIB, at_most

from htcgrid_chunks.history import (
    MAX_HISTORY_BYTES,
    History,
    brief,
    decode_history,
    encode_history,
)
from htcgrid_events import Attempt, FailureKind


def attempt(number: int, words: str = "no", trace: tuple[str, ...] = ("line",)) -> Attempt:
    return Attempt(
        started_at=number,
        ended_at=number + 1,
        agent="agent-1",
        host="host-1",
        kind=FailureKind.HANDLER,
        type="ValueError",
        message=words,
        trace=trace,
    )


def noise(length: int, seed: int) -> str:
    return shake_128(str(seed).encode()).hexdigest(length // 2)


def test_a_history_comes_back_as_it_was() -> None:
    history: History = {0: (attempt(1), attempt(2)), 7: (attempt(3),)}
    assert decode_history(encode_history(history)) == history
    assert decode_history(None) == {}


@pytest.mark.parametrize(("tasks", "tries"), [(1, 20), (50, 3), (1_000, 20)])
def test_a_history_of_any_size_fits_its_place_and_keeps_the_last_try_of_the_first_task(tasks: int, tries: int) -> None:
    history: History = {
        task: tuple(
            brief(
                attempt(number, noise(400, task * 99 + number), tuple(noise(150, number + line) for line in range(8)))
            )
            for number in range(tries)
        )
        for task in range(tasks)
    }
    data = encode_history(history)
    assert len(data) <= MAX_HISTORY_BYTES
    assert decode_history(data)[0][-1].started_at == tries - 1


def test_equal_failures_take_little_room_and_lose_nothing() -> None:
    history: History = {task: tuple(attempt(number) for number in range(3)) for task in range(500)}
    assert decode_history(encode_history(history)) == history


def test_a_try_is_kept_in_few_words() -> None:
    kept = brief(attempt(1, "x" * 9_999, tuple(str(line) * 999 for line in range(99))))
    assert len(kept.message) == 500
    assert len(kept.trace) == 8
    assert kept.trace[-1].startswith("98")
    assert max(map(len, kept.trace)) <= 200


def test_the_row_keeps_the_history_and_the_users_record_shows_it(harness: Harness) -> None:
    session = harness.create(2)
    [lease] = harness.claim(session, 0)
    history: History = {1: (attempt(5),)}
    retry = harness.progress("CQ", tries={1: 1}, history=history)
    harness.grid.chunks.retry([(lease, retry, harness.clock())])
    assert harness.row(session).history == history
    assert harness.grid.queries.task(TENANT, session.session_id, 1).history == (attempt(5),)
    assert harness.grid.queries.task(TENANT, session.session_id, 0).history == ()


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(b"[" * 60_000_000, 9),
        zlib.compress(b"[" * 15_000_000, 9),
        zlib.compress(b'{"0": "text"}'),
        b"no zlib",
        b"\x1f\x8b\x08",
    ],
)
def test_a_hostile_history_is_none_in_little_memory(data: bytes) -> None:
    with at_most(60 * MIB):
        assert decode_history(data) == {}
