"""Programs of the first HTC-Grid, on this one."""

from typing import Any

import pytest
from compat.tests.first_grid import config_of
from connector.tests.stub_grid import PASSWORD, USER, Failing, StubGrid

from api.connector import AWSConnector
from htcgrid import AuthenticationFailed, InvalidOption, InvalidTask
from htcgrid_events import new_id


def work(event: object) -> object:
    assert isinstance(event, dict)
    if event["worker_arguments"][0] == "bad":
        raise Failing("no such curve")
    return {"took": event["worker_arguments"]}


def test_the_program_of_the_first_grid_runs_as_it_stands(stub: StubGrid) -> None:
    stub.handler = work
    config, username, password = config_of(stub), USER, PASSWORD
    grid = AWSConnector()
    grid.init(config, username=username, password=password)
    grid.authenticate()
    resp = grid.send([{"worker_arguments": ["1000", "1", "1"]}, {"worker_arguments": ["2000", "1", "1"]}])
    session_id = resp["session_id"]
    assert resp == {"session_id": session_id, "task_ids": [f"{session_id}_0", f"{session_id}_1"]}
    assert grid.get_results(resp, timeout_sec=100) == {
        "finished": resp["task_ids"],
        "finished_OUTPUT": ['{"took": ["1000", "1", "1"]}', '{"took": ["2000", "1", "1"]}'],
        "cancelled": [],
        "cancelled_OUTPUT": [],
        "failed": [],
        "failed_OUTPUT": [],
        "metadata": {"tasks_in_response": 2},
    }
    assert grid.cancel_sessions([session_id]) == {
        session_id: {"cancelled_pending": 0, "cancelled_processing": 0, "total_cancelled_tasks": 0}
    }
    grid.close()


def test_failed_tasks_tell_why(stub: StubGrid, connector: AWSConnector) -> None:
    stub.handler = work
    sent = connector.send([{"worker_arguments": ["bad"]}])
    results = connector.get_results(sent)
    assert results["failed"] == sent["task_ids"]
    assert results["failed_OUTPUT"] == ["ValueError: no such curve\nline of task 0"]
    assert results["metadata"] == {"tasks_in_response": 1}


def test_a_timeout_gives_what_there_is(stub: StubGrid, connector: AWSConnector) -> None:
    sent = connector.send([{"worker_arguments": [str(number)]} for number in range(3)])
    stub.run(sent["session_id"], work, [1])
    for results in (
        connector.get_results(sent, timeout_sec=1),
        connector.invoke_get_results_lambda({"session_id": sent["session_id"]}),
    ):
        assert results["finished"] == [sent["task_ids"][1]]
        assert results["metadata"] == {"tasks_in_response": 1}


def test_cancelled_tasks_are_told_by_what_they_were_doing(stub: StubGrid, connector: AWSConnector) -> None:
    sent = connector.send([{"worker_arguments": []} for _ in range(3)])
    session = stub.sessions[sent["session_id"]]
    session.running.add(1)
    assert connector.cancel(session.session_id) == {
        session.session_id: {"cancelled_pending": 2, "cancelled_processing": 1, "total_cancelled_tasks": 3}
    }
    assert connector.get_results(sent)["cancelled"] == sent["task_ids"]


def test_an_unknown_session_does_not_keep_the_others_from_being_cancelled(
    stub: StubGrid, connector: AWSConnector, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (connector.send([{"worker_arguments": []}])["session_id"] for _ in range(2))
    unknown, expired = new_id(), "trades-of-monday"
    cancelled = {"cancelled_pending": 1, "cancelled_processing": 0, "total_cancelled_tasks": 1}
    nothing = {"cancelled_pending": 0, "cancelled_processing": 0, "total_cancelled_tasks": 0}
    assert connector.cancel_sessions([first, unknown, expired, second]) == {
        first: cancelled,
        unknown: nothing,
        expired: nothing,
        second: cancelled,
    }
    warnings_given = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.split(" to cancel")[0] for text in warnings_given] == [
        f"there is no session {unknown}",
        f"there is no session {expired}",
    ]


@pytest.mark.parametrize("given", ["0123456789abcdef0123456789abcdef", None, [None], [""], [7]])
def test_what_is_no_list_of_ids_cancels_nothing(connector: AWSConnector, given: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^session_ids?="):
        connector.cancel_sessions(given)


def test_what_is_no_submission_is_one_sentence(stub: StubGrid, connector: AWSConnector) -> None:
    with pytest.raises(InvalidTask, match="tasks must be a list"):
        connector.send("1000")
    with pytest.raises(InvalidOption, match=r"give what send\(\) gave"):
        connector.get_results({"task_ids": []})
    with pytest.raises(InvalidOption, match=r"give what generate_user_task_json\(\) made"):
        connector.submit({"session_id": new_id()})
    assert not stub.sessions


def test_the_limits_of_the_first_grid_hold(stub: StubGrid, connector: AWSConnector) -> None:
    options = stub.sessions[connector.send([{"worker_arguments": []}])["session_id"]].options
    assert (options.task_timeout_seconds, options.max_retries) == (3600, 5)
    jobs = connector.generate_user_task_json([{"worker_arguments": []}])
    jobs["scheduler_data"] = {"task_timeout_sec": 60, "retry_count": 0}
    options = stub.sessions[connector.submit(jobs)["session_id"]].options
    assert (options.task_timeout_seconds, options.max_retries) == (60, 0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"scheduler_data": {"retry_count": 21}},
            "scheduler_data has retry_count=21, which is not legal: give a whole",
        ),
        (
            {"scheduler_data": {"task_timeout_sec": "1h"}},
            "scheduler_data has task_timeout_sec='1h', which is not legal",
        ),
        ({"scheduler_data": [3600]}, "scheduler_data=[3600] is not legal: give a dict"),
        (
            {"context": {"tasks_priority": "high"}},
            "context has tasks_priority='high', which is not legal: give a whole",
        ),
        ({"context": {"tasks_priority": -1}}, "context has tasks_priority=-1, which is not legal"),
        ({"session_id": 7}, "session_id=7 is not legal"),
        ({"tasks_list": [1]}, "no 'tasks_list'"),
    ],
)
def test_a_fault_is_named_by_the_key_that_the_user_wrote(
    stub: StubGrid, connector: AWSConnector, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidOption) as raised:
        connector.submit(connector.generate_user_task_json([{"worker_arguments": []}]) | changes)
    assert sentence in str(raised.value)
    assert not stub.sessions


@pytest.mark.parametrize("seconds", [-1, "100", True, float("nan")])
def test_an_illegal_timeout_is_named(connector: AWSConnector, seconds: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^timeout_sec=.* is not legal"):
        connector.get_results({"session_id": new_id(), "task_ids": []}, timeout_sec=seconds)


@pytest.mark.parametrize(
    ("context", "priority"),
    [
        (None, "normal"),
        ({}, "normal"),
        ({"tasks_priority": 0}, "low"),
        ({"tasks_priority": 1}, "normal"),
        ({"tasks_priority": 2}, "high"),
        ({"tasks_priority": 4}, "high"),
    ],
)
def test_the_priority_of_the_context_is_taken(
    stub: StubGrid, connector: AWSConnector, context: dict[str, int] | None, priority: str
) -> None:
    jobs = connector.generate_user_task_json([{"worker_arguments": []}]) | {"context": context}
    assert stub.sessions[connector.submit(jobs)["session_id"]].options.priority.value == priority


def test_clients_of_services_are_not_used(stub: StubGrid) -> None:
    with pytest.warns(UserWarning, match="not used any more"):
        AWSConnector().init(config_of(stub), redis_custom_connection=object())


def test_the_order_of_calls_is_told(stub: StubGrid) -> None:
    connector = AWSConnector()
    with pytest.raises(AuthenticationFailed, match=r"call init\(\) before"):
        connector.authenticate()
    connector.init(config_of(stub), username=USER, password="wrong")
    with pytest.raises(AuthenticationFailed, match=r"call init\(\) and authenticate\(\)"):
        connector.send([])
    with pytest.raises(AuthenticationFailed, match="password is wrong"):
        connector.authenticate()
