"""The grid as an executor of the standard library."""

import asyncio
import concurrent.futures
import json
import operator
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from datetime import timedelta

import pytest
from connector.tests.stub_grid import Answer, Failing, StubGrid

from htcgrid import Grid, GridClosed, GridExecutor, InvalidOption, InvalidTask, SessionState, TaskFailed
from htcgrid.calls import call_event, call_handler

run_call = call_handler("json", "_operator", "operator")


def handle(event: object) -> object:
    try:
        return run_call(event, None)
    except ZeroDivisionError as error:
        raise Failing(str(error)) from None


@pytest.fixture
def running() -> Iterator[StubGrid]:
    with StubGrid(handle) as stub:
        yield stub


@pytest.fixture
def running_grid(running: StubGrid) -> Iterator[Grid]:
    with Grid.connect(running.profile(), request_timeout=60) as grid:
        yield grid


def test_it_passes_for_an_executor(running: StubGrid, running_grid: Grid) -> None:
    executor: Executor = GridExecutor(running_grid, priority="high")
    with executor:
        assert executor.submit(json.dumps, [1, 2], indent=None).result(timeout=60) == "[1, 2]"
        assert list(executor.map(json.dumps, range(5), timeout=20)) == list("01234")
        futures = [executor.submit(json.loads, str(i)) for i in range(10)]
        done = concurrent.futures.as_completed(futures, timeout=60)
        assert sorted(future.result() for future in done) == list(range(10))
    (session,) = running.sessions.values()
    assert session.options.priority == "high"
    assert session.totals is not None


def test_a_call_that_fails_raises(running_grid: Grid) -> None:
    with GridExecutor(running_grid) as executor, pytest.raises(TaskFailed, match="division by zero"):
        executor.submit(operator.truediv, 1, 0).result(timeout=60)


def test_it_runs_what_asyncio_hands_to_executors(running_grid: Grid) -> None:
    async def main() -> object:
        with GridExecutor(running_grid) as executor:
            return await asyncio.get_running_loop().run_in_executor(executor, json.dumps, {"x": 1})

    assert asyncio.run(main()) == '{"x": 1}'


def test_many_calls_travel_in_few_requests(
    running: StubGrid, running_grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "htcgrid._core.gatherer.LONGEST_WAIT", timedelta(minutes=1)
    )  # so that a slow machine counts alike
    with GridExecutor(running_grid, encode=lambda _fn, args, _kwargs: call_event(json.dumps, args, {})) as executor:
        futures = [executor.submit(json.dumps, i) for i in range(1_024)]
        assert [future.result(timeout=60) for future in futures] == list(map(str, range(1_024)))
        assert executor.session_id is not None
        assert running.count(executor.session_id) == 8
    (session,) = running.sessions.values()
    assert {chunk.size for chunk in session.chunks.values()} == {1}


def test_several_threads_may_submit(running: StubGrid, running_grid: Grid) -> None:
    results: list[object] = []
    with GridExecutor(running_grid) as executor:

        def submit() -> None:
            results.extend(executor.submit(json.dumps, i).result(timeout=60) for i in range(20))

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 160
    assert len(running.sessions) == 1


def test_shutdown_is_that_of_the_standard_library(stub: StubGrid, grid: Grid) -> None:
    executor = GridExecutor(grid)
    future = executor.submit(json.dumps, 1)
    executor.shutdown(wait=False)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(json.dumps, 2)
    stub.wait_for(lambda: any(session.totals for session in stub.sessions.values()))
    (session_id,) = stub.sessions
    assert executor.session_id == session_id
    assert not future.done()
    stub.run(session_id, handle)
    assert future.result(timeout=60) == "1"
    stub.wait_for(lambda: stub.sessions[session_id].state is SessionState.COMPLETED)


def test_an_executor_that_ran_nothing_made_no_session(stub: StubGrid, grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        assert executor.session_id is None
    assert not stub.sessions


def test_calls_that_were_not_sent_can_be_cancelled(stub: StubGrid, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[object] = []
    monkeypatch.setattr("htcgrid._core.connection.Connection.post", lambda _self, call: posted.__iadd__([call]))
    executor = GridExecutor(grid)
    first, second = executor.submit(json.dumps, 1), executor.submit(json.dumps, 2)
    assert first.cancel()
    executor.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    done, waiting = concurrent.futures.wait([first, second], timeout=0)
    assert (done, waiting) == ({first, second}, set())
    assert set(concurrent.futures.as_completed([first, second], timeout=0)) == done
    monkeypatch.undo()
    assert not stub.sessions


def test_a_grid_that_refuses_breaks_the_executor(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(), request_timeout=0.2) as grid:
        stub.fail("PUT /api/sessions", *[Answer(503)] * 1000)
        executor = GridExecutor(grid)
        future = executor.submit(json.dumps, 1)
        assert "503" in str(future.exception(timeout=60))
        with pytest.raises(BrokenExecutor, match="the grid takes no more calls"):
            executor.submit(json.dumps, 2)
        executor.shutdown()


def test_a_closed_grid_ends_its_executors(stub: StubGrid) -> None:
    with Grid.connect(stub.profile()) as grid:
        executor = GridExecutor(grid)
        future = executor.submit(json.dumps, 1)
        stub.wait_for(lambda: any(session.chunks for session in stub.sessions.values()))
    assert isinstance(future.exception(timeout=60), GridClosed)


def test_what_is_no_json_is_told_at_once(stub: StubGrid, grid: Grid) -> None:
    with GridExecutor(grid) as executor, pytest.raises(InvalidTask, match="not JSON"):
        executor.submit(json.dumps, object())
    with pytest.raises(InvalidOption, match="priority='urgent'"):
        GridExecutor(grid, priority="urgent")


def test_a_function_that_has_no_name_cannot_be_sent(grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        for nameless in (lambda x: x, ["x"].count, json.JSONDecoder().decode):
            with pytest.raises(TypeError, match="cannot be named to the grid"):
                executor.submit(nameless, "x")


def test_a_handler_calls_what_it_may_and_nothing_else() -> None:
    assert run_call(call_event(json.dumps, ([1],), {"indent": None}), None) == "[1]"
    for module, name, said in [
        ("os", "getcwd", "not among"),
        ("json", "nothing", "no function"),
        ("jsonx", "a", "not among"),
    ]:
        with pytest.raises((PermissionError, LookupError), match=said):
            run_call({"function": f"{module}:{name}", "args": [], "kwargs": {}}, None)
    with pytest.raises(ValueError, match="name the packages"):
        call_handler()
