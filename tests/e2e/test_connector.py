"""What the Python API offers, against the deployed template."""

import asyncio
import concurrent.futures

import pytest

from htcgrid import AsyncGrid, EmptySession, Grid, GridExecutor, Notifications, SessionState
from htcgrid_local import LocalGrid

pytestmark = pytest.mark.grid


def test_a_session_is_fed_over_time(grid: Grid) -> None:
    with grid.open_session() as session:
        assert session.add([{"value": 1}]) == range(1)
        assert session.futures()[0].result(timeout=60) == 1
        assert session.status().state is SessionState.OPEN
        assert session.add({"value": number} for number in range(2, 300)) == range(1, 299)
    assert session.results(timeout=60) == list(range(1, 300))
    assert session.wait(timeout=60).account.completed == 299


def test_an_open_session_without_a_task_ends(grid: Grid) -> None:
    session = grid.open_session()
    with pytest.raises(EmptySession, match="has been cancelled"):
        session.close()
    assert session.wait(timeout=60).state is SessionState.CANCELLED


def test_tasks_are_mapped_and_executed(grid: Grid) -> None:
    mapped = grid.map(({"value": number} for number in range(400)), buffersize=100)
    assert list(mapped) == list(range(400))
    with GridExecutor(grid, encode=lambda _fn, args, _kwargs: {"value": args[0]}) as executor:
        futures = [executor.submit(abs, number) for number in range(50)]
        done = concurrent.futures.as_completed(futures, timeout=60)
        assert sorted(future.result() for future in done) == list(range(50))
    assert executor.session_id is not None
    assert grid.attach(executor.session_id).wait(timeout=60).account.submitted == 50


@pytest.mark.parametrize("way", ["sns", "poll"])
def test_news_arrives_in_other_ways(local_grid: LocalGrid, way: Notifications, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in local_grid.root_key.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nothing answers: no proxy is asked on the loopback
    with Grid.connect(local_grid.profile, notifications=way) as grid:
        session = grid.submit({"value": number} for number in range(200))
        assert session.notifications == way
        assert session.results(timeout=60) == list(range(200))


def test_the_asynchronous_grid_does_the_same(local_grid: LocalGrid) -> None:
    async def main() -> list[object]:
        async with await AsyncGrid.connect(local_grid.profile) as grid:
            session = await grid.submit([{"value": number} for number in range(20)])
            return list(await asyncio.wait_for(asyncio.gather(*await session.futures()), 60))

    assert asyncio.run(main()) == list(range(20))
