"""The asynchronous grid: the same as the synchronous one, on its user's event loop."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from connector.tests.stub_grid import Failing, StubGrid

from htcgrid import (
    AsyncGrid,
    AsyncSession,
    FinishedTask,
    Grid,
    GridClosed,
    Session,
    SessionCancelled,
    SessionState,
    TaskFailed,
    WaitTimeout,
)

ALIKE = {
    "DeadLetters": "Iterator[DeadLetter]",  # a list has a view in notebooks; what awaits its pages cannot be one
    "AsyncIterator": "Iterator",
    "AsyncSession": "Session",
    "AsyncGrid": "Grid",
    "Future[Any]": "TaskFuture",
}


def public(of: type) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if not name.startswith("_")}


def shape(method: Callable[..., object]) -> str:
    text = re.sub(r"\b(\w+\.)+(?=[A-Za-z])", "", re.sub("['\"]", "", str(inspect.signature(method))))
    for asynchronous, synchronous in ALIKE.items():
        text = text.replace(asynchronous, synchronous)
    return text


@pytest.mark.parametrize(("synchronous", "asynchronous"), [(Grid, AsyncGrid), (Session, AsyncSession)])
def test_both_surfaces_are_the_same(synchronous: type, asynchronous: type) -> None:
    assert public(synchronous).keys() == public(asynchronous).keys()
    for name, value in public(synchronous).items():
        other = public(asynchronous)[name]
        if isinstance(value, property):
            assert isinstance(other, property), name
            continue
        if isinstance(value, classmethod):
            value, other = value.__func__, other.__func__
        assert shape(value) == shape(other), name
        wanted = inspect.isasyncgenfunction if "Iterator" in shape(value) else inspect.iscoroutinefunction
        assert wanted(other), name


@pytest.mark.parametrize("of", [AsyncGrid, AsyncSession])
def test_each_asynchronous_method_names_its_twin(of: type) -> None:
    for name, value in public(of).items():
        assert f"See `{of.__name__.removeprefix('Async')}.{name}`." in (inspect.getdoc(value) or ""), name


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def fail_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Failing(f"{event} is odd")
    return event


def run(stub: StubGrid, scenario: Callable[[AsyncGrid], Any]) -> Any:
    async def main() -> Any:
        async with await AsyncGrid.connect(stub.profile(), request_timeout=60) as grid:
            return await scenario(grid)

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_results_are_awaited(stub: StubGrid) -> None:
    async def scenario(grid: AsyncGrid) -> None:
        session = await grid.submit(range(300), chunk_size=7)
        with pytest.raises(WaitTimeout):
            await session.results(timeout=0)
        await asyncio.to_thread(stub.run, session.id, double)
        assert await session.results(timeout=60) == [2 * i for i in range(300)]
        assert (await session.wait(timeout=60)).state is SessionState.COMPLETED
        assert len(await session.timeline()) == 300
        assert (await session.progress()).completed == 300
        again = await grid.attach(session.id)
        assert {task.index async for task in again.as_completed()} == set(range(300))
        assert [found.session_id async for found in grid.sessions()] == [session.id]
        assert len([chunk async for chunk in session.chunks()]) == 43
        assert (await session.task(3)).index == 3

    run(stub, scenario)


def test_a_session_is_fed_in_a_block(stub: StubGrid) -> None:
    async def scenario(grid: AsyncGrid) -> None:
        async with await grid.open_session() as session:
            assert await session.add([1]) == range(1)
            await asyncio.gather(session.add([2]), session.add([3]))
        await asyncio.to_thread(stub.run, session.id, double)
        assert sorted(await session.results(timeout=60)) == [2, 4, 6]
        with pytest.raises(ZeroDivisionError):
            async with await grid.submit([1]) as other:
                raise ZeroDivisionError
        assert await other.results(return_exceptions=True, timeout=60) != [1]
        assert isinstance((await other.results(return_exceptions=True))[0], SessionCancelled)

    run(stub, scenario)


def test_futures_are_gathered(stub: StubGrid) -> None:
    async def scenario(grid: AsyncGrid) -> None:
        session = await grid.submit(range(4))
        futures = await session.futures()
        await asyncio.to_thread(stub.run, session.id, fail_on_odd)
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert results[::2] == [0, 2]
        assert all(isinstance(error, TaskFailed) for error in results[1::2])
        stub.handler = double
        assert await (await grid.submit_one(4)) == 8

    run(stub, scenario)


def test_a_map_is_iterated(stub: StubGrid) -> None:
    stub.handler = double

    async def scenario(grid: AsyncGrid) -> None:
        assert [result async for result in grid.map(range(500), buffersize=50)] == [2 * i for i in range(500)]
        endless: AsyncIterator[Any] = grid.map(iter(int, 1), buffersize=5)
        assert await anext(endless) == 0
        await endless.aclose()  # type: ignore[attr-defined]

    run(stub, scenario)
    assert [session.cancelled for session in stub.sessions.values()] == [False, True]


def test_results_are_called_back_on_the_loop(stub: StubGrid) -> None:
    seen: list[FinishedTask] = []

    async def scenario(grid: AsyncGrid) -> None:
        session = await grid.submit(range(10), on_result=seen.append)
        await asyncio.to_thread(stub.run, session.id, double)
        await session.wait(timeout=60)

    run(stub, scenario)
    assert sorted(task.index for task in seen) == list(range(10))


def test_a_closed_grid_says_so(stub: StubGrid) -> None:
    async def scenario(grid: AsyncGrid) -> None:
        session = await grid.submit([1])
        (future,) = await session.futures()
        waiting = asyncio.create_task(session.results())
        await asyncio.sleep(0)
        await grid.close()
        with pytest.raises(GridClosed, match="the grid was closed: connect anew"):
            await waiting
        with pytest.raises(GridClosed):
            await future
        with pytest.raises(GridClosed):
            await session.status()

    run(stub, scenario)
