"""Sources of tasks that wait: what was read is sent and its results come while the source is still being read."""

import itertools
import threading
from collections.abc import Iterator

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import Grid, GridUnavailable


class Source:
    """Gives these tasks and then waits until it may go on. Nothing here counts seconds: a test that gets no task
    before the source goes on would wait for ever."""

    def __init__(self, *parts: list[int]) -> None:
        self.parts = parts
        self.go_on = [threading.Event() for _ in parts]

    def __iter__(self) -> Iterator[int]:
        for part, event in zip(self.parts, self.go_on, strict=True):
            yield from part
            assert event.wait(60)


@pytest.fixture
def running() -> Iterator[StubGrid]:
    with StubGrid(lambda event: event) as stub:
        yield stub


def tasks_on(stub: StubGrid) -> int:
    return sum(chunk.size for session in stub.sessions.values() for chunk in session.chunks.values())


def test_what_submit_has_read_is_sent_while_the_source_waits(running: StubGrid) -> None:
    source = Source([1], [2, 3], list(range(300)))
    results: list[object] = []
    with Grid.connect(running.profile()) as grid:
        submitting = threading.Thread(target=lambda: results.extend(grid.submit(source).results(timeout=60)))
        submitting.start()
        for event, sent in zip(source.go_on, [1, 3, 303], strict=True):
            running.wait_for(lambda sent=sent: tasks_on(running) == sent)  # type: ignore[misc]
            event.set()
        submitting.join()
    assert results == [1, 2, 3, *range(300)]


def test_what_add_has_read_is_sent_while_the_source_waits(running: StubGrid) -> None:
    source = Source([1], [2])
    with Grid.connect(running.profile()) as grid, grid.open_session() as session:
        adding = threading.Thread(target=lambda: session.add(source, chunk_size=100))
        adding.start()
        for event, sent in zip(source.go_on, [1, 2], strict=True):
            running.wait_for(lambda sent=sent: tasks_on(running) == sent)  # type: ignore[misc]
            event.set()
        adding.join()


def test_a_map_gives_results_while_its_source_waits(running: StubGrid) -> None:
    source = Source([1], [2, 3], [])
    with Grid.connect(running.profile()) as grid:
        results = grid.map(source)
        assert next(results) == 1
        source.go_on[0].set()
        assert [next(results), next(results)] == [2, 3]
        for event in source.go_on:
            event.set()
        assert list(results) == []


def test_a_map_over_an_endless_source_that_waits_is_left(running: StubGrid) -> None:
    source = Source(list(range(200)), [])
    with Grid.connect(running.profile()) as grid:
        results = grid.map(source)
        assert list(itertools.islice(results, 200)) == list(range(200))
        results.close()  # type: ignore[attr-defined]
    assert all(session.cancelled for session in running.sessions.values())
    for event in source.go_on:
        event.set()


def test_an_error_of_the_source_leaves_a_map(running: StubGrid) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with Grid.connect(running.profile()) as grid, pytest.raises(OSError, match="the disk is gone"):
        list(grid.map(source()))
    assert all(session.cancelled for session in running.sessions.values())


def test_a_map_whose_source_waits_hears_of_a_grid_that_refuses(running: StubGrid) -> None:
    source = Source([1], [])
    running.fail("PUT /api/sessions", *[Answer(503)] * 1000)
    with Grid.connect(running.profile(), request_timeout=0.2) as grid, pytest.raises(GridUnavailable):
        next(grid.map(source))
    for event in source.go_on:
        event.set()


def test_a_submission_that_was_slow_can_be_repeated(stub: StubGrid) -> None:
    parts = [list(range(140)), [140], [141], list(range(142, 400))]
    source = Source(*parts)
    with Grid.connect(stub.profile(), request_timeout=0.2) as grid:
        told: list[GridUnavailable] = []

        def submit() -> None:
            try:
                grid.submit(source)
            except GridUnavailable as error:
                told.append(error)

        submitting = threading.Thread(target=submit)
        submitting.start()
        for event, sent in zip(source.go_on, [140, 141, 142], strict=False):
            stub.wait_for(lambda sent=sent: tasks_on(stub) == sent)  # type: ignore[misc]
            if sent == 142:
                stub.fail("POST .*/chunks", *[Answer(503)] * 1000)
            event.set()
        source.go_on[-1].set()
        submitting.join()
        (session_id,) = stub.sessions
        assert f"session_id={session_id!r}" in str(told[0])
        cut = {number: chunk.size for number, chunk in stub.sessions[session_id].chunks.items()}
        stub.faults.clear()
        session = grid.submit(iter(range(400)), session_id=session_id)
        again = {number: chunk.size for number, chunk in stub.sessions[session_id].chunks.items()}
        assert cut.items() <= again.items()
        stub.run(session_id, lambda event: event)
        assert session.results(timeout=60) == list(range(400))
