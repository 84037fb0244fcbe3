"""Tasks streamed in and results streamed out, in bounded memory."""

import itertools
from collections.abc import Iterator

import pytest
from connector.tests.stub_grid import Answer, Failing, StubGrid

from htcgrid import Grid, InvalidOption, ResultsUnavailable, SessionCancelled, TaskFailed
from htcgrid._follow.collector import Collector
from htcgrid_dataplane import encode_lines
from htcgrid_events import ChunkOutcome, Stages, StopReason, new_id


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def fail_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Failing(f"{event} is odd")
    return event


class Drawn:
    """Tasks 0, 1, 2, ... and how many of them were drawn."""

    def __init__(self, count: int | None = None) -> None:
        self.count = 0
        self._numbers = itertools.count() if count is None else iter(range(count))

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            self.count += 1
            yield number


@pytest.fixture
def running() -> Iterator[StubGrid]:
    with StubGrid(double) as stub:
        yield stub


def test_a_map_gives_results_in_order(running: StubGrid) -> None:
    with Grid.connect(running.profile()) as grid:
        assert list(grid.map(range(5_000))) == [2 * i for i in range(5_000)]
        assert list(grid.map(iter([]))) == []
    (session,) = running.sessions.values()
    assert session.totals is not None


@pytest.mark.parametrize("buffersize", [1, 7, 100])
def test_a_map_never_draws_further_ahead_than_told(running: StubGrid, buffersize: int) -> None:
    tasks = Drawn()
    with Grid.connect(running.profile()) as grid:
        results = grid.map(tasks, buffersize=buffersize)
        assert tasks.count == 0
        for taken, result in enumerate(itertools.islice(results, 500), 1):
            assert result == 2 * (taken - 1)
            assert tasks.count <= taken - 1 + buffersize
        results.close()  # type: ignore[attr-defined]
    (session,) = running.sessions.values()
    assert session.cancelled  # an endless map is left by cancelling it


def test_a_map_sends_larger_and_larger_chunks(running: StubGrid) -> None:
    with Grid.connect(running.profile()) as grid:
        assert len(list(grid.map(range(4_000), buffersize=1_000))) == 4_000
        assert len(list(grid.map(range(50), chunk_size=7))) == 50
    first, second = running.sessions.values()
    assert len(first.chunks) < 400  # a sixteenth of the buffer at most, but not one task each
    assert max(chunk.size for chunk in first.chunks.values()) <= 1_000 // 16
    assert {chunk.size for chunk in second.chunks.values()} == {7, 1}


def test_a_failed_task_ends_a_map_and_cancels_the_rest(stub: StubGrid) -> None:
    stub.handler = fail_on_odd
    with Grid.connect(stub.profile()) as grid:
        with pytest.raises(TaskFailed, match=r"task 1 .* has been cancelled"):
            list(grid.map(Drawn(100), chunk_size=1, buffersize=10))
        assert all(session.cancelled for session in stub.sessions.values())
        results = list(grid.map(range(4), return_exceptions=True))
        assert results[::2] == [0, 2]
        assert isinstance(results[1], TaskFailed)


def test_a_map_that_loses_the_grid_leaves_nothing_open(stub: StubGrid) -> None:
    stub.handler = double
    with Grid.connect(stub.profile(), request_timeout=0.2) as grid:
        stub.fail("POST .*/chunks", *[Answer(503)] * 1000)
        with pytest.raises(Exception, match="has been cancelled"):
            list(grid.map(Drawn(1000), buffersize=10))
    assert all(session.cancelled for session in stub.sessions.values())


@pytest.mark.parametrize("buffersize", [0, -1, True, 1.5, None])
def test_a_wrong_buffer_is_told(grid: Grid, buffersize: int) -> None:
    with pytest.raises(InvalidOption, match=r"buffersize=.* is not legal: give a whole number of tasks from 1 up"):
        next(grid.map([1], buffersize=buffersize))


def test_results_come_one_by_one_in_either_order(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=1)
    finishing = session.iter_results(order="completed", timeout=60)
    stub.run(session.id, double, [2])
    assert next(finishing) == 4
    stub.run(session.id, double, [1])
    assert next(finishing) == 2
    submitted = session.iter_results(timeout=60)
    stub.run(session.id, double, [0])
    assert [next(submitted) for _ in range(3)] == [0, 2, 4]
    stub.run(session.id, double)
    assert list(submitted) == [6]
    assert session.results(order="completed", timeout=60) == [4, 2, 0, 6]


def test_there_is_no_third_order(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    with pytest.raises(InvalidOption, match="order='random' is not legal: give 'submitted' or 'completed'"):
        session.results(order="random")  # type: ignore[arg-type]


def test_stored_results_come_in_order_too(stub: StubGrid, grid: Grid) -> None:
    stub.inline = False
    session = grid.submit(range(300), chunk_size=1)
    chunks = list(range(300))
    stub.run(session.id, double, chunks[::-1])
    assert session.results(timeout=60) == [2 * i for i in range(300)]


def test_cancelled_tasks_keep_their_places_in_order(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=1)
    stub.run(session.id, double, [0, 1, 5, 6])
    session.cancel()
    results = session.results(timeout=60, return_exceptions=True)
    assert [i for i, result in enumerate(results) if isinstance(result, SessionCancelled)] == [2, 3, 4, 7, 8, 9]


def test_tasks_that_a_failure_budget_stopped_say_so(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=1, max_failures=0)
    stub.run(session.id, fail_on_odd, [1])
    with stub.lock:
        stub.sessions[session.id].cancel(StopReason.FAILURES)
    stub.run(session.id, fail_on_odd, [])
    results = session.results(timeout=60, return_exceptions=True)
    assert isinstance(results[0], SessionCancelled)
    assert "more of its tasks failed than its failure budget allows" in str(results[0])
    assert not isinstance(results[0], ResultsUnavailable)


def outcome(chunk: int, size: int) -> ChunkOutcome:
    results = encode_lines([bytes(size)])
    return ChunkOutcome(
        chunk=chunk, first_task=chunk, outcomes="C", attempt=1, agent="a", stages=Stages(), results=results
    )


def test_results_that_nobody_reads_take_bounded_memory() -> None:
    one = outcome(0, 1000)
    assert one.results is not None
    collector = Collector(new_id(), results_kept=10 * len(one.results))
    collector.take(outcome(chunk, 1000) for chunk in range(100))
    arrived = [each.outcome for each in collector.arrived]
    assert len([each for each in arrived if each.results is not None]) == 10
    assert all(each.stored_bytes for each in arrived if each.results is None)


def test_results_that_were_read_make_room_for_others(
    stub: StubGrid, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htcgrid._follow.collector.Collector.__init__.__kwdefaults__", {"results_kept": 500})
    session = grid.submit(range(200), chunk_size=1)
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2 * i for i in range(200)]
    assert session.results(timeout=60) == [2 * i for i in range(200)]  # asked for again
