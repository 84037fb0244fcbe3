"""Sessions that are held, looked into and run again."""

import pytest
from connector.tests.stub_grid import Failing, StubGrid
from connector.tests.stub_session import FINGERPRINT

from htcgrid import Grid, InvalidOption, InvalidTask, RequestRejected, Session, SessionState, TaskState


def fail_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Failing(f"{event} is odd")
    return event


@pytest.fixture
def failed(stub: StubGrid, grid: Grid) -> Session:
    """A session of which 150 of 300 tasks have failed, each in a chunk of its own."""
    session = grid.submit(range(300), chunk_size=1)
    stub.run(session.id, fail_on_odd)
    assert session.wait(timeout=60).state is SessionState.FAILED
    return session


def test_a_session_is_held_and_goes_on(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    assert session.pause().paused
    assert stub.sessions[session.id].paused
    assert not session.resume().paused
    stub.run(session.id, lambda event: event)
    with pytest.raises(RequestRejected):
        session.pause()


def test_chunks_are_told_as_they_are_now(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(600), chunk_size=2)
    stub.run(session.id, fail_on_odd, [1])
    chunks = list(session.chunks())
    assert [chunk.first_task for chunk in chunks] == list(range(0, 600, 2))
    assert [chunk.chunk for chunk in chunks if chunk.state is TaskState.COMPLETED] == [1]
    assert chunks[1].outcomes == "CF"


def test_dead_letters_are_listed(failed: Session) -> None:
    letters = list(failed.dead_letters())
    assert [letter.tasks for letter in letters] == [(task,) for task in range(1, 300, 2)]
    assert {letter.fingerprint for letter in letters} == {FINGERPRINT}


def test_a_redriven_session_is_waited_for_anew(stub: StubGrid, failed: Session) -> None:
    assert failed.redrive() == 150
    assert stub.count("POST .*/redrive") == 3  # of 50 letters each
    arriving = failed.as_completed(timeout=60)
    stub.run(failed.id, lambda event: event)
    assert sorted(task.index for task in arriving) == list(range(300))
    assert failed.results(timeout=60) == list(range(300))
    assert failed.wait(timeout=60).state is SessionState.COMPLETED


def test_tasks_are_redriven_with_other_events(stub: StubGrid, failed: Session) -> None:
    assert failed.redrive(events={3: 30, 5: 50}) == 2
    stub.run(failed.id, fail_on_odd)
    results = failed.results(timeout=60, return_exceptions=True)
    assert results[3] == 30
    assert results[5] == 50
    assert isinstance(results[7], Exception)


def test_very_many_tasks_are_redriven_by_several_requests(stub: StubGrid, failed: Session) -> None:
    assert failed.redrive(tasks=range(2_500), events={1: 2}) == 150
    assert stub.count("POST .*/redrive") == 3 + 1 + 1  # 1,000 at most, and 50 letters at a time


def test_letters_of_one_kind_are_purged(failed: Session) -> None:
    assert failed.purge(fingerprint="f" * 16) == 0
    assert failed.purge(tasks=[1, 2, 3]) == 2
    assert failed.purge(fingerprint=FINGERPRINT) == 148
    assert list(failed.dead_letters()) == []
    assert failed.purge(tasks=[]) == 0


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"fingerprint": "x"}, "fingerprint='x' is not legal: give that of a dead letter"),
        ({"fingerprint": 5}, "fingerprint=5 is not legal"),
        ({"fingerprint": FINGERPRINT, "tasks": [1]}, "either a fingerprint or tasks"),
        ({"tasks": ["1"]}, "index='1' is not legal"),
        ({"tasks": [-1]}, "there is no task -1"),
        ({"tasks": [1], "events": {2: 1}}, "an event is given for task 2, which is not among"),
    ],
)
def test_a_wrong_selection_changes_nothing(
    stub: StubGrid, failed: Session, selection: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidOption, match=said):
        failed.redrive(**selection)  # type: ignore[arg-type]
    assert stub.count("POST .*/redrive") == 0


def test_a_new_event_that_is_no_json_changes_nothing(stub: StubGrid, failed: Session) -> None:
    with pytest.raises(InvalidTask, match="task 1: nan is not JSON"):
        failed.redrive(events={1: float("nan")})
    assert stub.count("POST .*/redrive") == 0
