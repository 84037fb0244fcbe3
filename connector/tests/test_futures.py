"""Futures and callbacks, as the standard library has them."""

import asyncio
import concurrent.futures
import logging
import threading

import pytest
from connector.tests.stub_grid import Failing, StubGrid

from htcgrid import FinishedTask, Grid, GridClosed, GridError, TaskFailed


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def fail_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Failing(f"{event} is odd")
    return event


def test_futures_work_with_the_standard_library(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=2)
    futures = session.futures()
    assert [future.index for future in futures] == list(range(10))
    assert futures[3].task_id == f"{session.id}_3"
    stub.run(session.id, fail_on_odd, [0])
    done, rest = concurrent.futures.wait(futures, timeout=60, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert futures[1] in done
    assert not rest & done
    stub.run(session.id, fail_on_odd)
    assert len(list(concurrent.futures.as_completed(futures, timeout=60))) == 10
    assert [future.result() for future in futures[::2]] == [0, 2, 4, 6, 8]
    assert all(isinstance(future.exception(), TaskFailed) for future in futures[1::2])


def test_futures_work_with_asyncio(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(5))
    futures = session.futures()
    stub.run(session.id, double)

    async def gather() -> list[object]:
        return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    assert asyncio.run(gather()) == [0, 2, 4, 6, 8]


def test_a_task_that_is_on_the_grid_cannot_be_cancelled_alone(stub: StubGrid, grid: Grid) -> None:
    (future,) = grid.submit([1]).futures()
    assert future.running()
    assert not future.cancel()
    future.session.cancel()
    assert isinstance(future.exception(timeout=60), GridError)


def test_one_task_is_one_future(stub: StubGrid, grid: Grid) -> None:
    stub.handler = double
    assert grid.submit_one(21, priority="high").result(timeout=60) == 42


def test_an_open_session_has_futures_of_what_was_added(stub: StubGrid, grid: Grid) -> None:
    session = grid.open_session()
    session.add([1, 2])
    first = session.futures()
    session.add([3])
    second = session.futures()
    session.close()
    stub.run(session.id, double)
    assert [future.result(timeout=60) for future in first] == [2, 4]
    assert [future.result(timeout=60) for future in second] == [2, 4, 6]


def test_callbacks_may_use_the_grid(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    states: list[object] = []
    called = threading.Event()

    def ask(_future: object) -> None:
        states.append(session.status().account.completed)
        called.set()

    session.futures()[0].add_done_callback(ask)
    stub.run(session.id, double)
    assert called.wait(60)
    assert states == [1]


def test_a_closed_grid_fails_its_futures(stub: StubGrid) -> None:
    with Grid.connect(stub.profile()) as grid:
        (future,) = grid.submit([1]).futures()
    assert isinstance(future.exception(timeout=60), GridClosed)


def test_results_are_called_back(stub: StubGrid, grid: Grid) -> None:
    seen: list[FinishedTask] = []
    session = grid.submit(range(300), on_result=seen.append)
    stub.run(session.id, fail_on_odd)
    session.wait(timeout=60)
    assert sorted(task.index for task in seen) == list(range(300))
    assert sum(task.error is not None for task in seen) == 150


def test_a_callback_that_raises_is_logged_and_stops_nothing(
    stub: StubGrid, grid: Grid, caplog: pytest.LogCaptureFixture
) -> None:
    def complain(task: FinishedTask) -> None:
        raise RuntimeError(f"about {task.index}")

    session = grid.submit(range(3), on_result=complain)
    stub.run(session.id, double)
    session.wait(timeout=60)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(record.exc_info[1]) for record in errors if record.exc_info] == ["about 0", "about 1", "about 2"]


def test_a_callback_cannot_wait_for_what_waits_for_it(stub: StubGrid, grid: Grid) -> None:
    told: list[str] = []

    def wait(task: FinishedTask) -> None:
        with pytest.raises(GridError, match="a callback cannot wait for a session") as error:
            session.wait()
        told.append(str(error.value))

    session = grid.open_session(on_result=wait)
    session.add([1])
    session.close()
    stub.run(session.id, double)
    session.wait(timeout=60)
    assert len(told) == 1
