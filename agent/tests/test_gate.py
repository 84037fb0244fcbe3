"""Whose turn it is to receive, and how much there is room for."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from agent.tests.embedded import until
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.protocol.gate import (
    WEIGHTS,
    Gate,
)
from htcgrid_agent.work.capacity import Capacity
from htcgrid_events import Priority

HOUR = timedelta(hours=1)


class Room:
    """Room for so many chunks."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks

    def __call__(self) -> int:
        return self.chunks


def test_busy_queues_share_by_weight_and_none_starves() -> None:
    room = Room(0)
    gate = Gate(room, lapse=HOUR)
    taken: Counter[Priority] = Counter()
    turns = threading.Semaphore(0)

    def receive(queue: Priority) -> None:
        while count := gate.enter(queue):
            room.chunks -= count
            taken[queue] += count
            gate.leave(queue, count)
            turns.release()

    with ThreadPoolExecutor(len(Priority)) as pool:
        for queue in Priority:
            pool.submit(receive, queue)
        for _ in range(210):
            until(lambda: gate.waiting == len(Priority))
            room.chunks = 1
            gate.notify_capacity()
            assert turns.acquire(timeout=60)
        gate.close()
    total = sum(WEIGHTS.values())
    assert {queue: round(taken[queue] * total / 210) for queue in Priority} == dict(WEIGHTS)


def test_a_long_poll_at_an_empty_queue_keeps_nobody_out() -> None:
    clock = [0.0]
    gate = Gate(Room(5), clock=lambda: clock[0], lapse=timedelta(seconds=1))
    assert gate.enter(Priority.HIGH) == 5
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(gate.enter, Priority.LOW)
        until(lambda: gate.waiting == 1)
        assert not entering.done()
        clock[0] = 2.0
        gate.notify_capacity()
        assert entering.result(5) == 5


def test_a_queue_that_was_empty_has_not_saved_up_turns() -> None:
    room = Room(100)
    gate = Gate(room, lapse=HOUR)
    for _ in range(50):
        gate.enter(Priority.NORMAL)
        gate.leave(Priority.NORMAL, 1)
    room.chunks = 0
    order: list[Priority] = []

    def receive(queue: Priority) -> None:
        while count := gate.enter(queue):
            room.chunks -= count
            order.append(queue)
            gate.leave(queue, count)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(receive, Priority.NORMAL)
        until(lambda: gate.waiting == 1)
        pool.submit(receive, Priority.LOW)
        for turn in range(1, 11):
            until(lambda: gate.waiting == 2)
            room.chunks = 1
            gate.notify_capacity()
            until(lambda turn=turn: len(order) == turn)  # type: ignore[misc]
        gate.close()
    assert order.count(Priority.NORMAL) >= 7


def test_a_closed_gate_lets_nobody_pass() -> None:
    gate = Gate(Room(0))
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(gate.enter, Priority.LOW)
        until(lambda: gate.waiting == 1)
        gate.close()
        assert entering.result(5) == 0
    assert gate.enter(Priority.HIGH) == 0


def test_a_little_room_waits_a_moment_to_become_more() -> None:
    clock, room = [0.0], Room(1)
    gate = Gate(room, more_soon=lambda: True, clock=lambda: clock[0], lapse=HOUR)
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(gate.enter, Priority.NORMAL)
        until(lambda: gate.waiting == 1)
        room.chunks = 10
        gate.notify_capacity()
        assert entering.result(5) == 10
        gate.leave(Priority.NORMAL, 10)
        room.chunks = 1
        entering = pool.submit(gate.enter, Priority.NORMAL)
        until(lambda: gate.waiting == 1)
        # Only the clock of the test moves, and past the moment at last.
        assert not entering.done()
        clock[0] = 1.0
        gate.notify_capacity()
        assert entering.result(5) == 1


def test_room_waits_for_nothing_that_will_not_come() -> None:
    assert Gate(Room(1), more_soon=lambda: False, clock=lambda: 0.0).enter(Priority.NORMAL) == 1


def test_more_room_is_expected_of_short_chunks_only() -> None:
    for seconds, soon in ((0.001, True), (60.0, False)):
        load = Capacity(workers=2, prefetch=1)
        assert not load.more_room_soon
        for _ in range(2):
            load.chunks_received(1)
            load.tasks_queued(1)
            load.tasks_started(1)
        load.task_ended(seconds)
        load.chunk_concluded()
        assert load.more_room_soon is soon
        load.task_ended(seconds)
        load.chunk_concluded()
        assert not load.more_room_soon


def test_an_agent_takes_no_long_chunks_ahead_of_idle_workers() -> None:
    load = Capacity(workers=2, prefetch=5)
    assert load.room() == 2
    load.chunks_received(1)
    load.tasks_queued(1)
    assert load.room() == 1
    load.tasks_started(1)
    load.task_ended(60.0)
    load.chunk_concluded()
    load.chunks_received(2)
    load.tasks_queued(1)
    load.tasks_queued(1)
    assert load.room() == 0


def test_an_agent_takes_short_chunks_ahead() -> None:
    load = Capacity(workers=2, prefetch=3)
    for _ in range(2):
        load.chunks_received(1)
        load.tasks_queued(1)
        load.tasks_started(1)
    load.task_ended(0.001)
    load.chunk_concluded()
    assert load.room() == 8 - 1


def test_an_agent_whose_outcomes_are_not_taken_stops_receiving() -> None:
    load = Capacity(workers=1, prefetch=0)
    for _ in range(6):
        load.chunks_received(1)
        load.tasks_queued(1)
        load.tasks_started(1)
        load.task_ended(0.001)
        load.chunk_concluded()
    assert load.room() <= 0
    load.chunks_written(6)
    assert load.room() == 1


@given(st.integers(1, 8), st.integers(0, 3), st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), max_size=30))
def test_room_never_exceeds_the_limit_and_idle_workers_are_never_left_out(
    workers: int, prefetch: int, history: list[tuple[int, float]]
) -> None:
    load = Capacity(workers, prefetch)
    for tasks, seconds in history:
        load.chunks_received(1)
        load.tasks_queued(tasks)
        for _ in range(tasks):
            load.tasks_started(1)
            load.task_ended(seconds)
        load.chunk_concluded()
        load.chunks_written(1)
        assert 1 <= load.room() <= workers * (1 + prefetch)
