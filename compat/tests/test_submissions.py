"""Session ids of the user's own making, and more tasks for the same session."""

from collections.abc import Sequence
from typing import Any

import pytest
from compat.tests.first_grid import config_of
from connector.tests.stub_grid import PASSWORD, USER, Answer, StubGrid

from api.connector import AWSConnector
from htcgrid import InvalidOption, InvalidTask, SessionNotFound

_OWN = "3dba632c-ea3b-11f1-8e79-02fc00000001"


def jobs(connector: AWSConnector, session_id: str | None, tasks: Sequence[Any]) -> dict[str, Any]:
    return connector.generate_user_task_json(tasks) | {"session_id": session_id}


@pytest.fixture
def echo(stub: StubGrid) -> StubGrid:
    stub.handler = lambda event: event
    return stub


@pytest.mark.parametrize("own", [_OWN, "6398f57e-6911-11eb-b5fb-060372291b89-part024", "Bücher/Montag 7", "x" * 300])
def test_a_session_id_of_the_users_own_making_is_taken(echo: StubGrid, connector: AWSConnector, own: str) -> None:
    sent = connector.submit(jobs(connector, own, [1, 2]))
    assert sent == {"session_id": own, "task_ids": [f"{own}_0", f"{own}_1"]}
    assert connector.get_results(sent, timeout_sec=60)["finished"] == sent["task_ids"]
    assert connector.cancel(own)[own]["total_cancelled_tasks"] == 0


def test_a_uuid_is_the_same_session_on_the_grid(echo: StubGrid, connector: AWSConnector) -> None:
    connector.submit(jobs(connector, _OWN, [1]))
    assert list(echo.sessions) == [_OWN.replace("-", "")]


def test_more_tasks_are_numbered_on_under_the_same_session_id(echo: StubGrid, connector: AWSConnector) -> None:
    first = connector.send([10, 11])
    session_id = first["session_id"]
    second = connector.submit(jobs(connector, session_id, [12, 13, 14]))
    third = connector.submit(jobs(connector, session_id, [12, 13, 14]))
    assert second["task_ids"] == [f"{session_id}_{number}" for number in (2, 3, 4)]
    assert third["task_ids"] == [f"{session_id}_{number}" for number in (5, 6, 7)]
    assert connector.get_results(second, timeout_sec=60)["finished_OUTPUT"] == ["12", "13", "14"]
    both = {"session_id": session_id, "task_ids": first["task_ids"] + third["task_ids"]}
    results = connector.get_results(both, timeout_sec=60)
    assert results["finished"] == both["task_ids"]
    assert results["finished_OUTPUT"] == ["10", "11", "12", "13", "14"]
    assert results["metadata"] == {"tasks_in_response": 5}
    whole = connector.invoke_get_results_lambda({"session_id": session_id})
    assert whole["finished"] == [f"{session_id}_{number}" for number in range(8)]


def test_every_submission_has_a_verdict(echo: StubGrid, connector: AWSConnector) -> None:
    for number in range(3):
        connector.submit(jobs(connector, _OWN, [number]))
    assert [session.state.value for session in echo.sessions.values()] == ["COMPLETED"] * 3


def test_another_program_goes_on_with_the_session(echo: StubGrid, connector: AWSConnector) -> None:
    first = connector.submit(jobs(connector, _OWN, [1, 2]))
    other = AWSConnector(config_of(echo), USER, PASSWORD)
    other.authenticate()
    second = other.submit(jobs(other, _OWN, [3]))
    assert second["task_ids"] == [f"{_OWN}_2"]
    assert other.get_results(first, timeout_sec=60)["finished_OUTPUT"] == ["1", "2"]
    assert connector.get_results(second, timeout_sec=60)["finished_OUTPUT"] == ["3"]
    other.close()


def test_all_submissions_of_a_session_are_cancelled(stub: StubGrid, connector: AWSConnector) -> None:
    connector.submit(jobs(connector, _OWN, [1, 2]))
    stub.sessions[_OWN.replace("-", "")].running.add(0)
    connector.submit(jobs(connector, _OWN, [3]))
    assert connector.cancel_sessions([_OWN]) == {
        _OWN: {"cancelled_pending": 2, "cancelled_processing": 1, "total_cancelled_tasks": 3}
    }
    assert all(session.cancelled for session in stub.sessions.values())


def test_a_timeout_is_that_of_all_submissions_together(stub: StubGrid, connector: AWSConnector) -> None:
    for number in range(3):
        connector.submit(jobs(connector, _OWN, [number]))
    stub.run(list(stub.sessions)[2], lambda event: event)
    results = connector.get_results({"session_id": _OWN}, timeout_sec=0.5)
    assert results["finished"] == [f"{_OWN}_2"]


@pytest.mark.parametrize("asked", [None, "None"])
def test_without_an_id_there_is_a_new_one(echo: StubGrid, connector: AWSConnector, asked: str | None) -> None:
    sent = [connector.submit(jobs(connector, asked, [1]))["session_id"] for _ in range(2)]
    assert sorted(sent) == sorted(echo.sessions)
    assert len(echo.sessions) == 2


def test_a_submission_that_broke_off_is_repeated_and_not_doubled(stub: StubGrid, connector: AWSConnector) -> None:
    stub.handler = lambda event: event
    connector.submit(jobs(connector, _OWN, [1]))
    refused = Answer(400, b'{"reason": "Strange"}')
    stub.fail("PUT /api/sessions", refused)
    more = jobs(connector, _OWN, [2, 3])
    with pytest.raises(Exception, match="400"):
        connector.submit(more)
    assert connector.submit(more)["task_ids"] == [f"{_OWN}_1", f"{_OWN}_2"]
    assert len(stub.sessions) == 2


def test_a_task_that_is_no_json_leaves_the_numbers_as_they_were(echo: StubGrid, connector: AWSConnector) -> None:
    connector.submit(jobs(connector, _OWN, [1]))
    with pytest.raises(InvalidTask):
        connector.submit(jobs(connector, _OWN, [{2}]))
    assert connector.submit(jobs(connector, _OWN, [2]))["task_ids"] == [f"{_OWN}_1"]


def test_an_unknown_session_has_no_results(stub: StubGrid, connector: AWSConnector) -> None:
    with pytest.raises(SessionNotFound, match="no session 'of-nobody'"):
        connector.get_results({"session_id": "of-nobody", "task_ids": ["of-nobody_0"]})


def test_tasks_of_another_session_are_refused(stub: StubGrid, connector: AWSConnector) -> None:
    with pytest.raises(InvalidOption, match="'other_0', which is no task of session mine"):
        connector.get_results({"session_id": "mine", "task_ids": ["other_0"]})


def test_a_new_session_costs_no_look_for_earlier_submissions(echo: StubGrid, connector: AWSConnector) -> None:
    connector.send([1])
    assert echo.count("^GET /api/sessions") == 0


def test_what_is_remembered_of_sessions_is_bounded(
    echo: StubGrid, connector: AWSConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.connector._SESSIONS_REMEMBERED", 2)
    first = connector.send([1])
    for _ in range(3):
        connector.send([1])
    again = connector.submit(jobs(connector, first["session_id"], [2]))
    assert again["task_ids"] == [f"{first['session_id']}_1"]
    assert len(connector._sessions) == 2
