"""The rule of scaling: agents by outstanding work, never fewer than are busy, never more than can be."""

import math
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from htcgrid_controlplane.rules.scaling import Demand, Messages, Pool, Work, WorkedMinute, demand

NOW = 29_000_000
MINUTE = timedelta(minutes=1)

pools = st.builds(
    Pool, workers=st.integers(1, 64), target=st.integers(1, 86_400).map(lambda seconds: timedelta(seconds=seconds))
)
queues = st.builds(Messages, waiting=st.integers(0, 120_000), in_flight=st.integers(0, 120_000))


@st.composite
def works(draw: st.DrawFn) -> Work:
    attempts = draw(st.integers(0, 100_000))
    tasks = draw(st.integers(attempts, attempts * 1_000))
    return Work(attempts, tasks, draw(st.integers(0, tasks * 43_200_000_000)))


@st.composite
def minutes(draw: st.DrawFn) -> list[WorkedMinute]:
    """The last minutes with work, newest first, the present one perhaps among them."""
    numbers = sorted(draw(st.sets(st.integers(NOW - 40, NOW), max_size=15)), reverse=True)
    return [WorkedMinute(number, draw(works()), draw(st.integers(0, 120_000))) for number in numbers]


def one_minute(attempts: int, tasks: int, seconds: float, ago: int = 1, in_flight: int = 0) -> WorkedMinute:
    return WorkedMinute(NOW - ago, Work(attempts, tasks, int(seconds * 1_000_000)), in_flight)


def wanted(waiting: int, in_flight: int, *seen: WorkedMinute, workers: int = 1, target: timedelta = MINUTE) -> Demand:
    return demand(Messages(waiting, in_flight), seen, NOW, Pool(workers, target))


@given(queues, minutes(), pools)
def test_it_is_bounded_and_what_is_published_agrees(messages: Messages, seen: list[WorkedMinute], pool: Pool) -> None:
    answer = demand(messages, seen, NOW, pool)
    assert (answer.agents == 0) is (messages.total == 0)
    assert answer.agents <= messages.total
    if answer.agents_per_chunk is None:
        assert answer.agents == math.ceil(messages.total / pool.workers)
        assert (answer.outstanding is None) is (messages.total > 0)
    else:
        assert 0 < answer.agents_per_chunk <= 1
        assert answer.agents >= math.floor(messages.total * answer.agents_per_chunk)
        assert answer.outstanding is not None
        assert (answer.outstanding > timedelta(0)) is (messages.total > 0)


@given(queues, minutes(), pools)
def test_what_is_busy_keeps_its_agents(messages: Messages, seen: list[WorkedMinute], pool: Pool) -> None:
    assert demand(messages, seen, NOW, pool).agents * pool.workers >= messages.in_flight


@given(queues, minutes(), pools, st.integers(1, 1_000))
def test_more_messages_never_want_fewer_agents(
    messages: Messages, seen: list[WorkedMinute], pool: Pool, more: int
) -> None:
    longer = Messages(messages.waiting + more, messages.in_flight)
    assert demand(longer, seen, NOW, pool).agents >= demand(messages, seen, NOW, pool).agents


@given(st.integers(1, 100_000), st.integers(1, 1_000), st.integers(1, 3_600_000), pools)
def test_the_agents_finish_what_waits_within_the_target(
    waiting: int, tasks: int, milliseconds: int, pool: Pool
) -> None:
    seconds = tasks * milliseconds / 1_000
    answer = demand(Messages(waiting), [one_minute(1, tasks, seconds)], NOW, pool)
    # Where the chunks allow it: a chunk has one agent, and a task one worker.
    assume(answer.agents < waiting * min(1, tasks / pool.workers))
    within = pool.target.total_seconds()
    assert waiting * seconds / (answer.agents * pool.workers) <= within * (1 + 1e-9)
    if answer.agents > 1:
        assert waiting * seconds / ((answer.agents - 1) * pool.workers) >= within * (1 - 1e-9)


def test_short_tasks_in_large_chunks_want_few_agents_and_long_ones_a_worker_each() -> None:
    short = one_minute(20, 10_000, 10)
    assert wanted(20, 0, short).agents == 1
    assert wanted(20, 0, short).outstanding == timedelta(seconds=10)
    hours = one_minute(1, 1, 3_600)
    assert wanted(200, 0, hours, workers=4).agents == 50
    assert wanted(0, 200, hours, workers=4).agents == 50


def test_before_anything_has_finished_each_message_wants_a_worker() -> None:
    assert wanted(2_000, 0, workers=4) == Demand(Messages(2_000), 500, None, None)
    assert wanted(0, 0) == Demand(Messages(), 0, timedelta(0), None)
    # An attempt of which nobody knows how long it took tells nothing.
    assert wanted(8, 0, one_minute(3, 0, 0)).agents_per_chunk is None


def test_tasks_too_short_to_be_measured_are_no_unknown_ones() -> None:
    answer = wanted(5, 0, one_minute(10, 10, 0))
    assert answer.agents == 1
    assert answer.agents_per_chunk


def test_long_chunks_behind_short_ones_are_not_taken_for_short_ones() -> None:
    """A hundred short chunks have finished; then fifty long ones come, one of which runs."""
    short = one_minute(100, 100, 50, ago=3, in_flight=10)
    assert wanted(49, 1, short).agents == 1
    still = WorkedMinute(NOW - 1, in_flight=1)
    assert wanted(49, 1, still, short).agents == 26
    assert wanted(49, 1, still, WorkedMinute(NOW - 2, in_flight=1), short).agents == 50


def test_short_chunks_that_agents_hold_all_the_time_stay_short() -> None:
    """A hundred workers run chunks of half a second without a pause, and hold as many again."""
    steady = [one_minute(12_000, 12_000, 6_000, ago=ago, in_flight=200) for ago in range(1, 6)]
    assert wanted(6_000, 200, *steady).agents == 200
    assert wanted(60_000, 200, *steady).agents == pytest.approx(502, abs=1)


def test_a_break_ends_what_was_held() -> None:
    old = one_minute(1, 1, 1, ago=2, in_flight=50)
    for since in ([], [WorkedMinute(NOW - 1)], [WorkedMinute(NOW, in_flight=50)]):
        assert wanted(59, 1, *since, old).agents == 1


def test_short_chunks_get_agents_beside_those_that_long_ones_keep() -> None:
    """Sixty long chunks hold the workers of fifteen agents, and two hundred short ones come each minute."""
    minutes = [one_minute(200, 10_000, 200, ago=ago, in_flight=60) for ago in range(1, 4)]
    answer = wanted(200, 60, *minutes, workers=4)
    assert 15 < answer.agents <= 25
    assert wanted(0, 60, *minutes, workers=4).agents == 15
