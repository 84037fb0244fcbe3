"""Sources of tasks that wait: what was read is sent and its results come while the source is still being read."""

import asyncio
import contextvars
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import AsyncGrid, Grid, GridClosed, GridUnavailable


class Source:
    """Gives these tasks and then waits until it may go on. Nothing here counts seconds: a test that gets no task
    before the source goes on would wait for ever."""

    def __init__(self, *parts: list[int]) -> None:
        self.parts = parts
        self.begun = threading.Event()
        self.go_on = [threading.Event() for _ in parts]

    def __iter__(self) -> Iterator[int]:
        self.begun.set()
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


# --- on the user's event loop, which is never blocked: it is the loop that lets a source go on ---


async def submit(grid: AsyncGrid, tasks: Iterable[int]) -> list[Any]:
    return await (await grid.submit(tasks)).results(timeout=60)


async def add(grid: AsyncGrid, tasks: Iterable[int]) -> list[Any]:
    async with await grid.open_session() as session:
        await session.add(tasks, chunk_size=100)
    return await session.results(timeout=60)


async def take_all(grid: AsyncGrid, tasks: Iterable[int]) -> list[Any]:
    return [result async for result in grid.map(tasks)]


Way = Callable[[AsyncGrid, Iterable[int]], Awaitable[list[Any]]]
every_way = pytest.mark.parametrize("way", [submit, add, take_all])


def request_of(way: Way) -> str:
    """The request with the first task."""
    return "POST .*/chunks" if way is add else "PUT /api/sessions"


def on_a_loop(stub: StubGrid, scenario: Callable[[AsyncGrid], Awaitable[None]], request_timeout: float = 60) -> None:
    async def main() -> None:
        async with await AsyncGrid.connect(stub.profile(), request_timeout=request_timeout) as grid:
            await scenario(grid)

    asyncio.run(asyncio.wait_for(main(), 60))


async def until(stub: StubGrid, met: Callable[[], bool]) -> None:
    await asyncio.to_thread(stub.wait_for, met)


def join_readers() -> None:
    """Wait until no thread reads a source any more."""
    for thread in threading.enumerate():
        if thread.name in ("htcgrid source", "htcgrid map"):
            thread.join(60)
            assert not thread.is_alive()


@every_way
def test_an_event_loop_goes_on_while_a_source_waits(running: StubGrid, way: Way) -> None:
    source = Source([1], [2, 3], list(range(300)))

    async def scenario(grid: AsyncGrid) -> None:
        waiting = asyncio.ensure_future(way(grid, source))
        for event, sent in zip(source.go_on, [1, 3, 303], strict=True):
            await until(running, lambda sent=sent: tasks_on(running) == sent)  # type: ignore[misc]
            event.set()
        assert await waiting == [1, 2, 3, *range(300)]

    on_a_loop(running, scenario)


def test_an_asynchronous_map_gives_results_while_its_endless_source_waits(running: StubGrid) -> None:
    source = Source(list(range(200)), [200], [])

    async def scenario(grid: AsyncGrid) -> None:
        results: AsyncIterator[Any] = grid.map(source)
        assert [await anext(results) for _ in range(200)] == list(range(200))
        source.go_on[0].set()
        assert await anext(results) == 200
        await results.aclose()  # type: ignore[attr-defined]

    on_a_loop(running, scenario)
    assert all(session.cancelled for session in running.sessions.values())
    for event in source.go_on:
        event.set()
    join_readers()


@every_way
def test_an_error_of_the_source_is_raised_where_it_is_awaited(running: StubGrid, way: Way) -> None:
    source = Source([1])

    def failing() -> Iterator[int]:
        yield from source
        raise OSError("the disk is gone")

    async def scenario(grid: AsyncGrid) -> None:
        waiting = asyncio.ensure_future(way(grid, failing()))
        await until(running, lambda: tasks_on(running) == 1)
        source.go_on[0].set()
        with pytest.raises(OSError, match="the disk is gone"):
            await waiting

    on_a_loop(running, scenario)
    assert [session.cancelled for session in running.sessions.values()] == [True]


@every_way
def test_nothing_is_drawn_after_a_cancellation(running: StubGrid, way: Way) -> None:
    source, drawn = Source([1], [2, 3, 4]), []

    async def scenario(grid: AsyncGrid) -> None:
        tasks = (drawn.append(task) or task for task in source)  # type: ignore[func-returns-value]
        waiting = asyncio.ensure_future(way(grid, tasks))
        await until(running, lambda: tasks_on(running) == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()

    on_a_loop(running, scenario)
    assert [session.cancelled for session in running.sessions.values()] == [True]
    for event in source.go_on:
        event.set()
    join_readers()
    assert drawn == [1, 2]  # the second was being drawn
    assert tasks_on(running) == 1


@every_way
def test_a_cancellation_waits_for_no_grid_that_says_not_now(running: StubGrid, way: Way) -> None:
    source = Source([1])
    request = request_of(way)
    running.fail(request, *[Answer(503)] * 10_000)

    async def scenario(grid: AsyncGrid) -> None:
        waiting = asyncio.ensure_future(way(grid, source))
        await until(running, lambda: running.count(request) > 0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()

    on_a_loop(running, scenario, request_timeout=3600)
    source.go_on[0].set()
    join_readers()


@every_way
def test_who_waits_for_a_source_hears_of_a_grid_that_refuses(running: StubGrid, way: Way) -> None:
    source = Source([1])
    running.fail(request_of(way), *[Answer(503)] * 10_000)

    async def scenario(grid: AsyncGrid) -> None:
        with pytest.raises(GridUnavailable):
            await way(grid, source)

    on_a_loop(running, scenario, request_timeout=0.2)
    source.go_on[0].set()
    join_readers()


@every_way
@pytest.mark.parametrize("given", [[], [1]])
def test_who_waits_for_a_source_hears_that_the_grid_was_closed(running: StubGrid, way: Way, given: list[int]) -> None:
    source = Source(given)

    async def scenario(grid: AsyncGrid) -> None:
        waiting = asyncio.ensure_future(way(grid, source))
        if given:
            await until(running, lambda: tasks_on(running) == 1)
        else:
            assert await asyncio.to_thread(source.begun.wait, 60)
        await grid.close()
        with pytest.raises(GridClosed):
            await waiting

    on_a_loop(running, scenario)
    source.go_on[0].set()
    join_readers()


@every_way
def test_a_source_is_read_in_the_context_of_who_gives_it(running: StubGrid, way: Way) -> None:
    wanted = contextvars.ContextVar("wanted", default=0)

    async def scenario(grid: AsyncGrid) -> None:
        wanted.set(7)
        assert await way(grid, (wanted.get() for _ in range(2))) == [7, 7]

    on_a_loop(running, scenario)


@pytest.mark.parametrize("way", [submit, take_all])
def test_no_source_is_waited_for_on_a_closed_grid(running: StubGrid, way: Way) -> None:
    source = Source([])

    async def scenario(grid: AsyncGrid) -> None:
        await grid.close()
        with pytest.raises(GridClosed):
            await way(grid, source)

    on_a_loop(running, scenario)
    source.go_on[0].set()
    join_readers()
