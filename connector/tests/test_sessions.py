"""What users do with sessions, against a grid over real sockets."""

import pytest
from connector.tests.stub_grid import Failing, StubGrid

from htcgrid import (
    Grid,
    InvalidOption,
    SessionCancelled,
    SessionNotFound,
    SessionState,
    TaskFailed,
    TaskNotFound,
    WaitTimeout,
)
from htcgrid.results import Arrival, Part
from htcgrid_dataplane import encode_lines
from htcgrid_events import ChunkOutcome, FailureKind, Stages, TaskError, new_id


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def fail_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Failing(f"{event} is odd")
    return event


def test_results_come_in_the_order_of_the_tasks(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(300), chunk_size=7)
    chunks = sorted(stub.sessions[session.id].chunks)
    stub.run(session.id, double, chunks[::-1])
    assert session.results(timeout=60) == [2 * i for i in range(300)]
    assert session.notifications == "websocket"


def test_no_status_is_asked_for_while_pushes_come(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2]
    assert stub.count("^GET") == 0


def test_one_small_session_is_one_request(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1, 2, 3])
    assert stub.count(session.id) == 1


def test_the_first_failed_task_is_raised_with_what_happened_over_there(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=2)
    stub.run(session.id, fail_on_odd)
    with pytest.raises(
        TaskFailed, match=r"task 1 of session .* failed after 3 attempts on agent-1 at host-1: ValueError: 1 is odd"
    ) as told:
        session.results(timeout=60)
    assert (told.value.index, told.value.kind, told.value.attempts, told.value.agent) == (1, "handler", 3, "agent-1")
    assert told.value.trace == ("line of task 1",)
    assert "line of task 1" in told.value.__notes__[0]


def test_a_failure_is_raised_before_the_rest_has_finished(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=1)
    stub.run(session.id, fail_on_odd, [0, 1])
    with pytest.raises(TaskFailed):
        session.results(timeout=60)


def test_failures_can_be_had_in_their_places(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4))
    stub.run(session.id, fail_on_odd)
    results = session.results(timeout=60, return_exceptions=True)
    assert results[::2] == [0, 2]
    assert [type(error) for error in results[1::2]] == [TaskFailed, TaskFailed]


def test_completed_tasks_are_yielded_as_they_arrive(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=1)
    arriving = session.as_completed(timeout=60)
    for chunk in (2, 0, 3, 1):
        stub.run(session.id, fail_on_odd, [chunk])
        task = next(arriving)
        assert task.index == chunk
        assert (task.error is None) == (chunk % 2 == 0)
    assert list(arriving) == []


def test_the_verdict_can_be_waited_for(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1, 2])
    with pytest.raises(WaitTimeout):
        session.wait(timeout=0.05)
    stub.run(session.id, fail_on_odd)
    status = session.wait(timeout=60)
    assert status.state is SessionState.FAILED
    assert (status.account.completed, status.account.failed) == (1, 1)


def test_a_timeout_leaves_the_session_as_it_was(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    with pytest.raises(WaitTimeout) as told:
        session.results(timeout=0)
    assert told.value.retryable
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2]


def test_cancelled_tasks_have_an_error_for_a_result(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(6), chunk_size=2)
    stub.run(session.id, double, [1])
    session.cancel()
    results = session.results(timeout=60, return_exceptions=True)
    assert results[2:4] == [4, 6]
    assert [type(error) for error in results[:2] + results[4:]] == [SessionCancelled] * 4
    with pytest.raises(SessionCancelled):
        session.results(timeout=60)


def test_a_session_is_found_again_from_elsewhere(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(1000), chunk_size=3)
    stub.run(session.id, double)
    with Grid.connect(stub.profile()) as other:
        again = other.attach(session.id)
        assert again.results(timeout=60) == [2 * i for i in range(1000)]
        assert again.wait(timeout=60).state is SessionState.COMPLETED
    assert stub.push.opened == 1  # of what has ended nothing is pushed


def test_a_session_found_again_is_pushed_too(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=1)
    with Grid.connect(stub.profile()) as other:
        arriving = other.attach(session.id).as_completed(timeout=60)
        for chunk in range(4):
            stub.run(session.id, double, [chunk])
            assert next(arriving).index == chunk


@pytest.mark.parametrize("session_id", ["0" * 32, "no-id", "../../etc", ""])
def test_an_unknown_session_is_not_found(grid: Grid, session_id: str) -> None:
    with pytest.raises(SessionNotFound, match="you have no session"):
        grid.attach(session_id)


def test_a_session_is_found_by_its_id_as_it_is_shown(stub: StubGrid, grid: Grid) -> None:
    one, two = "abcdef01" + "0" * 24, "abcdef02" + "0" * 24
    for session_id in (one, two):
        grid.submit([1], session_id=session_id)
    stub.page_size = 1
    for shown in (one.upper(), f"{one[:8]}-{one[8:]}", f" {one}\n", "ABCDEF01"):
        assert grid.attach(shown).id == one
    with pytest.raises(InvalidOption, match=f"several sessions begin with abcdef, such as {two} and {one}: give more"):
        grid.attach("ABCDEF")
    with pytest.raises(InvalidOption, match="abc is too short for the beginning of a session's id: give 4 digits or"):
        grid.attach("abc")
    with pytest.raises(InvalidOption, match="several sessions begin with abcdef"):
        grid.cancel(["abcdef01", "abcdef"])
    with pytest.raises(SessionNotFound, match="you have no session '0123'"):
        grid.cancel(["abcdef01", "0123"])
    assert stub.count("POST /api/sessions/cancel") == 0
    assert grid.cancel([one.upper(), "abcdef01", "abcdef02"]).stopping == (one, two)


def test_a_submission_is_repeated_by_its_id_as_it_is_shown(grid: Grid) -> None:
    session = grid.submit([1], session_id="AB" * 16)
    assert session.id == "ab" * 16
    assert grid.submit([1], session_id="abababab-abab-abab-abab-abababababab").id == session.id
    with pytest.raises(InvalidOption, match="session_id='abab' is not legal: give the id of an earlier submission"):
        grid.submit([1], session_id="abab")


@pytest.mark.parametrize("session_id", [5, None, b"id", ["id"]])
def test_what_is_no_session_id_is_told(stub: StubGrid, grid: Grid, session_id: object) -> None:
    with pytest.raises(InvalidOption, match=r"session_id=.* is not legal: give a session's id, a text of 32 hexa"):
        grid.attach(session_id)  # type: ignore[arg-type]
    assert stub.count("/api/") == 0


def test_a_task_has_a_record(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1, 2])
    assert session.task(1).task_id == f"{session.id}_1"
    with pytest.raises(TaskNotFound):
        session.task(2)


def test_there_is_no_task_before_the_first(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    with pytest.raises(TaskNotFound, match=f"session {session.id} has no task -1: the first one is task 0"):
        session.task(-1)
    assert stub.count("/tasks/") == 0


@pytest.mark.parametrize("index", ["a", "0", 1.0, True, None])
def test_what_is_no_tasks_number_is_told(stub: StubGrid, grid: Grid, index: object) -> None:
    session = grid.submit([1])
    with pytest.raises(InvalidOption, match=r"index=.* is not legal: give a task's number .* from 0 up"):
        session.task(index)  # type: ignore[arg-type]
    assert stub.count("/tasks/") == 0


class Number:
    """A whole number of another library, as numpy's are."""

    def __index__(self) -> int:
        return 1


def test_a_whole_number_of_another_library_names_a_task(grid: Grid) -> None:
    session = grid.submit([1, 2])
    assert session.task(Number()).index == 1


def test_the_timeline_tells_when_each_task_passed_its_stages(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=2)
    stub.run(session.id, double, [1])
    assert [(t.index, t.claimed_at, t.finished_at) for t in session.timeline()] == [(2, 3, 5), (3, 3, 5)]
    stub.run(session.id, double)
    assert [t.index for t in session.timeline()] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_of_every_kind_is_told_as_such(kind: FailureKind) -> None:
    told = TaskError(kind=kind, type="T", message="m")
    stages = Stages(submitted_at=1)
    outcome = ChunkOutcome(chunk=0, first_task=0, outcomes="F", attempt=1, agent="a", stages=stages)
    (task,) = Part(new_id(), Arrival(outcome, encode_lines([told.model_dump_json().encode()])))
    assert isinstance(task.error, TaskFailed)
    assert task.error.kind == kind.value
