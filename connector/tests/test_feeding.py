"""Sessions that are fed repeatedly, and what becomes of them when their block is left."""

import threading
from collections.abc import Iterator

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import (
    EmptySession,
    Grid,
    GridUnavailable,
    InvalidOption,
    InvalidTask,
    OnExit,
    RequestRejected,
    SessionClosed,
    SessionState,
)


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def test_a_session_is_fed_and_closed(stub: StubGrid, grid: Grid) -> None:
    session = grid.open_session(priority="high")
    assert stub.sessions[session.id].state is SessionState.OPEN
    assert session.add([0, 1]) == range(2)
    stub.run(session.id, double)
    arriving = session.as_completed(timeout=60)
    assert {next(arriving).result for _ in range(2)} == {0, 2}
    assert session.add(range(2, 300), chunk_size=1) == range(2, 300)
    session.close()
    session.close()
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2 * i for i in range(300)]
    assert session.wait(timeout=60).state is SessionState.COMPLETED
    assert sorted(task.index for task in arriving) == list(range(2, 300))


def test_tasks_are_acknowledged_when_add_returns(stub: StubGrid, grid: Grid) -> None:
    session = grid.open_session()
    session.add(range(1000), chunk_size=1)
    assert len(stub.sessions[session.id].chunks) == 1000


def test_several_threads_may_feed_a_session(stub: StubGrid, grid: Grid) -> None:
    session = grid.open_session()
    added: list[range] = []
    threads = [threading.Thread(target=lambda: added.append(session.add(range(10)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.close()
    assert sorted(index for part in added for index in part) == list(range(80))
    assert session.status().account.submitted == 80


def test_a_closed_session_takes_no_tasks(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    with pytest.raises(SessionClosed, match=f"session {session.id} takes no more tasks: it was closed"):
        session.add([2])
    with Grid.connect(stub.profile()) as other, pytest.raises(SessionClosed, match="in the program that opened it"):
        other.attach(session.id).add([2])


def test_a_wrong_list_leaves_an_open_session_as_it_was(stub: StubGrid, grid: Grid) -> None:
    session = grid.open_session()
    session.add([1])
    with pytest.raises(InvalidTask, match="task 2: nan is not JSON"):
        session.add([2, float("nan")])
    assert session.add([3]) == range(1, 2)
    session.close()
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2, 6]


def test_a_stream_that_breaks_off_cancels_its_session(stub: StubGrid, grid: Grid) -> None:
    def tasks() -> Iterator[int]:
        yield from range(300)
        raise OSError("the disk is gone")

    session = grid.open_session()
    with pytest.raises(OSError, match="the disk is gone") as told:
        session.add(tasks(), chunk_size=1)
    assert "has been cancelled" in told.value.__notes__[0]
    assert stub.sessions[session.id].cancelled
    with pytest.raises(SessionClosed, match="its submission broke off"):
        session.add([1])


def test_a_feed_that_broke_off_can_be_repeated(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(), request_timeout=0.2) as grid:
        session = grid.open_session()
        session.add(range(5))
        stub.fail("POST .*/chunks", *[Answer(503)] * 1000)
        with pytest.raises(GridUnavailable, match=f"session_id='{session.id}'"):
            session.add(range(5))
        stub.faults.clear()
        again = grid.open_session(session_id=session.id)
        again.add(range(5))
        again.add(range(5))
        again.close()
        assert again.status().account.submitted == 10


def test_an_open_session_without_a_task_is_refused_and_cancelled(stub: StubGrid, grid: Grid) -> None:
    session = grid.open_session()
    with pytest.raises(EmptySession, match="there is no task to submit"):
        session.close()
    assert stub.sessions[session.id].cancelled


def test_a_refused_session_is_told(stub: StubGrid, grid: Grid) -> None:
    stub.fail("PUT /api/sessions", Answer(409, b'{"error":"SessionConflict","message":"It has other options."}'))
    with pytest.raises(RequestRejected, match="It has other options"):
        grid.open_session()


@pytest.mark.parametrize("on_exit", ["cancel_on_error", "keep", "cancel"])
def test_leaving_the_block_does_as_told(stub: StubGrid, grid: Grid, on_exit: OnExit) -> None:
    with grid.open_session(on_exit=on_exit) as session:
        session.add([1, 2])
    told = stub.sessions[session.id]
    assert told.cancelled == (on_exit == "cancel")
    assert told.totals is not None


@pytest.mark.parametrize("on_exit", ["cancel_on_error", "keep", "cancel"])
def test_leaving_the_block_by_an_error_does_as_told(stub: StubGrid, grid: Grid, on_exit: OnExit) -> None:
    with pytest.raises(ZeroDivisionError), grid.open_session(on_exit=on_exit) as session:  # noqa: PT012
        session.add([1, 2])
        raise ZeroDivisionError
    told = stub.sessions[session.id]
    assert told.cancelled == (on_exit != "keep")
    assert told.totals is not None


def test_an_error_in_the_block_is_not_hidden_by_one_on_leaving_it(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(), request_timeout=0.2) as grid:
        stub.fail("/cancel", *[Answer(503)] * 1000)
        with pytest.raises(ZeroDivisionError) as told, grid.submit([1]) as session:
            raise ZeroDivisionError
        assert f"session {session.id} goes on" in told.value.__notes__[0]


def test_an_ended_session_is_left_alone(stub: StubGrid, grid: Grid) -> None:
    with grid.submit([1], on_exit="cancel") as session:
        stub.run(session.id, double)
        session.wait(timeout=60)
    assert not stub.sessions[session.id].cancelled
    with pytest.raises(ZeroDivisionError), grid.attach(session.id):
        raise ZeroDivisionError


def test_there_is_no_other_way_to_leave(grid: Grid) -> None:
    with pytest.raises(InvalidOption, match="on_exit='drop' is not legal: give 'cancel_on_error', 'cancel' or 'keep'"):
        grid.open_session(on_exit="drop")  # type: ignore[arg-type]
