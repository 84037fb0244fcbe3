"""Lists of sessions, cancelling several of them, and what the grid tells of itself."""

from datetime import UTC, datetime

import pytest
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid, InvalidOption, SessionState
from htcgrid_events import new_id


def test_sessions_are_listed_newest_first_page_by_page(stub: StubGrid, grid: Grid) -> None:
    stub.page_size = 2
    ids = [grid.submit([1]).id for _ in range(5)]
    listed = grid.sessions()
    assert next(listed).session_id == ids[-1]
    assert stub.count("GET /api/sessions") == 1
    assert [session.session_id for session in listed] == ids[-2::-1]
    assert stub.count("GET /api/sessions") == 3


def test_sessions_are_chosen_by_state_and_age(stub: StubGrid, grid: Grid) -> None:
    first, second, third = (grid.submit([1]).id for _ in range(3))
    stub.run(second, lambda event: event)
    assert [session.session_id for session in grid.sessions(state="completed")] == [second]
    assert [session.session_id for session in grid.sessions(state=SessionState.RUNNING)] == [third, first]
    young = datetime.fromtimestamp(0.003, UTC)  # the stub's sessions are created at 1, 2 and 3 ms
    assert [session.session_id for session in grid.sessions(before=young)] == [second, first]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"state": "DONE"}, "state='DONE' is not legal: give one of OPEN, RUNNING, COMPLETED"),
        ({"state": 5}, "state=5 is not legal"),
        ({"before": 5}, "before=5 is not legal: give a datetime"),
    ],
)
def test_what_chooses_no_session_is_told(stub: StubGrid, grid: Grid, given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        grid.sessions(**given)  # type: ignore[arg-type]
    assert stub.count("/api/") == 0


def test_several_sessions_are_cancelled_at_once(stub: StubGrid, grid: Grid) -> None:
    running, ended, other = (grid.submit([1]).id for _ in range(3))
    stub.run(ended, lambda event: event)
    unknown = [new_id() for _ in range(150)]
    done = grid.cancel([running, ended, *unknown])
    assert (done.stopping, done.ended, done.unknown) == ((running,), (ended,), tuple(unknown))
    assert stub.count("POST /api/sessions/cancel") == 2  # a request names 100 at most
    stub.page_size = 2
    others = [grid.submit([1]).id for _ in range(5)]
    assert grid.cancel(None).stopping == (other, *others)


@pytest.mark.parametrize("ids", ["0" * 32, ["no id"], [5]])
def test_what_names_no_sessions_cancels_none(stub: StubGrid, grid: Grid, ids: list[str]) -> None:
    with pytest.raises(InvalidOption, match="session"):
        grid.cancel(ids)
    assert stub.count("/api/") == 0


def test_the_grid_tells_of_itself(grid: Grid) -> None:
    assert grid.info().tenant == "ada"
    assert grid.info().partitions == ("default", "gpu")
