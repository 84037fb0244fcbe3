"""When an agent has had nothing to do for long, moment by moment."""

from datetime import timedelta

from htcgrid_agent.work.idleness import Idleness

SECOND = 1000.0


def idleness() -> Idleness:
    it = Idleness(timedelta(seconds=10))
    assert not it.is_over(received=0, in_hand=0, room=1, now_ms=50 * SECOND), "it has just begun"
    return it


def test_it_is_over_after_its_limit_and_no_sooner() -> None:
    it = idleness()
    assert not it.is_over(received=0, in_hand=0, room=1, now_ms=59.9 * SECOND)
    assert it.is_over(received=0, in_hand=0, room=1, now_ms=60 * SECOND)


def test_work_in_hand_is_no_idleness_however_long_it_takes() -> None:
    it = idleness()
    assert not it.is_over(received=1, in_hand=1, room=0, now_ms=51 * SECOND)
    assert not it.is_over(received=1, in_hand=1, room=0, now_ms=9_000 * SECOND)
    assert not it.is_over(received=1, in_hand=0, room=1, now_ms=9_009 * SECOND)
    assert it.is_over(received=1, in_hand=0, room=1, now_ms=9_010 * SECOND)


def test_a_chunk_that_came_and_went_between_two_looks_counts() -> None:
    it = idleness()
    assert not it.is_over(received=1, in_hand=0, room=1, now_ms=60 * SECOND)
    assert not it.is_over(received=1, in_hand=0, room=1, now_ms=69 * SECOND)
    assert it.is_over(received=1, in_hand=0, room=1, now_ms=70 * SECOND)


def test_an_agent_that_cannot_work_is_not_idle() -> None:
    it = idleness()
    assert not it.is_over(received=0, in_hand=0, room=0, now_ms=60 * SECOND)
    assert not it.is_over(received=0, in_hand=0, room=-1, now_ms=70 * SECOND)
    assert not it.is_over(received=0, in_hand=0, room=1, now_ms=79 * SECOND)
    assert it.is_over(received=0, in_hand=0, room=1, now_ms=80 * SECOND)
