"""By WebSocket, by SNS or by asking: all ways pass the same tests."""

import builtins
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from connector.tests.stub_grid import Failing, Retried, StubGrid
from connector.tests.stub_topic import topic_grid

from htcgrid import (
    Grid,
    InvalidOption,
    Notifications,
    NotificationsUnavailable,
    SessionCancelled,
    SessionState,
)


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def fail_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Failing(f"{event} is odd")
    return event


def retry_on_odd(event: object) -> object:
    assert isinstance(event, int)
    if event % 2:
        raise Retried
    return event


@pytest.fixture(params=["websocket", "sns", "poll"])
def way(request: pytest.FixtureRequest) -> Notifications:
    found: Notifications = request.param
    return found


@pytest.fixture
def told(way: Notifications, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubGrid]:
    if way == "sns":
        with topic_grid(monkeypatch) as stub:
            yield stub
    else:
        with StubGrid(push=way == "websocket") as stub:
            yield stub


@pytest.fixture
def grid(told: StubGrid, way: Notifications) -> Iterator[Grid]:
    with Grid.connect(told.profile(), request_timeout=60, notifications=way) as grid:
        yield grid


def test_the_way_is_reported(told: StubGrid, grid: Grid, way: Notifications) -> None:
    assert grid.submit([1]).notifications == way


def test_results_come_in_order(told: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(300), chunk_size=7)
    told.run(session.id, double)
    assert session.results(timeout=60) == [2 * i for i in range(300)]
    assert session.wait(timeout=60).state is SessionState.COMPLETED


def test_results_come_while_others_run(told: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(3), chunk_size=1)
    arriving = session.as_completed(timeout=60)
    for chunk in (2, 0, 1):
        told.run(session.id, fail_on_odd, [chunk])
        assert next(arriving).index == chunk
    assert list(arriving) == []
    assert session.wait(timeout=60).state is SessionState.FAILED


def test_good_tasks_beside_a_failing_one_are_told_while_it_is_run_again(
    told: StubGrid, grid: Grid, way: Notifications
) -> None:
    session = grid.submit(range(5), chunk_size=5)
    arriving = session.as_completed(timeout=20)
    told.run(session.id, retry_on_odd)
    early = [next(arriving).index for _ in range(3)] if way != "poll" else []
    told.run(session.id, retry_on_odd)
    told.run(session.id, fail_on_odd)
    late = [task.index for task in arriving]
    assert early == ([] if way == "poll" else [0, 2, 4])  # without pushes, with the chunk
    assert sorted(early + late) == [0, 1, 2, 3, 4]
    assert session.wait(timeout=20).state is SessionState.FAILED


def test_large_results_come_too(told: StubGrid, grid: Grid) -> None:
    told.inline = False
    session = grid.submit(range(20), chunk_size=2)
    told.run(session.id, double)
    assert session.results(timeout=60) == [2 * i for i in range(20)]


def test_what_was_lost_on_its_way_is_found(told: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=1)
    told.push.losing = True
    told.run(session.id, double, [0, 1])
    told.push.losing = False
    told.run(session.id, double)
    assert session.results(timeout=60) == [0, 2, 4, 6]


def test_what_comes_twice_counts_once(told: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=1)
    told.run(session.id, double, repeat=3)
    assert sorted(task.index for task in session.as_completed(timeout=60)) == [0, 1, 2, 3]


def test_cancelled_tasks_are_told(told: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(2), chunk_size=1)
    told.run(session.id, double, [0])
    session.cancel()
    results = session.results(timeout=60, return_exceptions=True)
    assert results[0] == 0
    assert isinstance(results[1], SessionCancelled)


def test_sessions_of_others_are_followed_too(told: StubGrid, grid: Grid, way: Notifications) -> None:
    session = grid.submit(range(2), chunk_size=1)
    with Grid.connect(told.profile(), notifications=way) as other:
        arriving = other.attach(session.id).as_completed(timeout=60)
        for chunk in range(2):
            told.run(session.id, double, [chunk])
            assert next(arriving).index == chunk


def test_a_redriven_session_is_followed_anew(told: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(2), chunk_size=1)
    told.run(session.id, fail_on_odd)
    assert session.wait(timeout=60).state is SessionState.FAILED
    session.redrive()
    told.run(session.id, double)
    assert session.results(timeout=60) == [0, 2]


def test_futures_and_maps_are_settled(told: StubGrid, grid: Grid) -> None:
    told.handler = double
    assert grid.submit_one(4).result(timeout=60) == 8
    assert list(grid.map(range(50), buffersize=20)) == [2 * i for i in range(50)]


# --- of one way alone ---


def test_a_queue_is_made_for_the_client_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    with topic_grid(monkeypatch) as stub:
        with Grid.connect(stub.profile(), notifications="sns") as grid:
            first, second = grid.submit([1]), grid.submit([2])
            assert first.id[:12] == second.id[:12]
            assert len(stub.queues()) == 1
            assert stub.filters() == [{"tenant": ["ada"], "session_id": [{"prefix": first.id[:12]}]}]
            assert stub.sessions[first.id].options.publish_outcomes
        assert stub.queues() == []
        assert stub.filters() == []


def test_no_status_is_asked_for_while_messages_come(monkeypatch: pytest.MonkeyPatch) -> None:
    with topic_grid(monkeypatch) as stub, Grid.connect(stub.profile(), notifications="sns") as grid:
        session = grid.submit([1])
        stub.run(session.id, double)
        assert session.results(timeout=60) == [2]
        assert stub.count("^GET /api/sessions") == 0


def test_a_queue_that_is_gone_is_told_and_the_grid_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with topic_grid(monkeypatch) as stub, Grid.connect(stub.profile(), notifications="sns") as grid:
        session = grid.submit([1])
        stub.forget_clients()
        stub.run(session.id, double)
        assert session.results(timeout=60) == [2]
        assert session.notifications == "poll"
    assert "the queue of results cannot be read" in caplog.text


def test_without_boto3_the_extra_is_named(stub: StubGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_boto3(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "boto3":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    stub.topic = "arn:aws:sns:eu-west-1:123456789012:results"
    monkeypatch.setattr(builtins, "__import__", no_boto3)
    with pytest.raises(
        NotificationsUnavailable, match=r"'sns' cannot be had: it needs boto3: pip install 'htcgrid\[aws\]'"
    ):
        Grid.connect(stub.profile(), notifications="sns")


def test_a_topic_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with topic_grid(monkeypatch) as stub:
        stub.topic = stub.topic + "-of-another-grid"
        with pytest.raises(NotificationsUnavailable, match="'sns' cannot be had: NotFound"):
            Grid.connect(stub.profile(), notifications="sns")
        assert stub.queues() == []


def test_who_insists_on_websockets_hears_that_there_are_none() -> None:
    with StubGrid(push=False) as stub, pytest.raises(NotificationsUnavailable, match="'websocket' cannot be had: "):
        Grid.connect(stub.profile(), notifications="websocket")


def test_who_asks_opens_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    with StubGrid() as stub, Grid.connect(stub.profile(), notifications="poll") as grid:
        session = grid.submit([1])
        stub.run(session.id, double)
        assert session.results(timeout=60) == [2]
        assert stub.push.opened == stub.count("subscribers") == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_there_is_no_other_way(stub: StubGrid) -> None:
    with pytest.raises(
        InvalidOption, match="notifications='mail' is not legal: give one of 'auto', 'websocket', 'sns'"
    ):
        Grid.connect(stub.profile(), notifications="mail")  # type: ignore[arg-type]
