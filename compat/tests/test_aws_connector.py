"""Programs of the first HTC-Grid, on this one."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from connector.tests.stub_grid import PASSWORD, USER, Failing, StubGrid

from api.connector import AWSConnector
from htcgrid import AuthenticationFailed, InvalidOption, InvalidTask, ProfileInvalid, SessionNotFound
from htcgrid_events import new_id


def config_of(stub: StubGrid, **more: Any) -> dict[str, Any]:
    """A configuration as the first HTC-Grid's deployment writes it, with this grid's addresses."""
    profile = stub.profile()
    return {
        "region": "eu-west-1",
        "sqs_endpoint": "https://sqs.eu-west-1.amazonaws.com",
        "redis_url": "redis.example.com",
        "redis_password": "secret",
        "grid_storage_service": "REDIS",
        "task_input_passed_via_external_storage": 1,
        "dynamodb_results_pull_interval_sec": 1,
        "user_pool_id": "eu-west-1_pool",
        "cognito_userpool_client_id": "client",
        "public_api_gateway_url": profile.api_url,
        "private_api_gateway_url": "https://private.example.com",
        "api_gateway_key": "key",
        "enable_xray": "0",
        "push_url": profile.push_url,
        "aws_endpoint_url": profile.aws_endpoint_url,
        **more,
    }


@pytest.fixture
def connector(stub: StubGrid) -> Iterator[AWSConnector]:
    connector = AWSConnector()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connector.init(config_of(stub), username=USER, password=PASSWORD)
    connector.authenticate()
    yield connector
    connector.close()


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


def test_an_unknown_session_cancels_none(stub: StubGrid, connector: AWSConnector) -> None:
    sent = connector.send([{"worker_arguments": []}])
    with pytest.raises(SessionNotFound):
        connector.cancel_sessions([sent["session_id"], new_id()])
    assert not stub.sessions[sent["session_id"]].cancelled


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


def test_without_an_address_for_pushes_results_are_asked_for(stub: StubGrid) -> None:
    stub.handler = work
    config = config_of(stub)
    del config["push_url"]
    connector = AWSConnector()
    connector.init(config, USER, PASSWORD)
    connector.authenticate()
    sent = connector.send([{"worker_arguments": ["1"]}])
    assert connector.get_results(sent, timeout_sec=60)["finished"] == sent["task_ids"]
    connector.close()


def test_unknown_keys_are_named(stub: StubGrid) -> None:
    with pytest.warns(UserWarning, match="keys that no HTC-Grid knows: colour, publik_api_gateway_url$"):
        AWSConnector().init(config_of(stub, publik_api_gateway_url="x", colour="red"))


def test_clients_of_services_are_not_used(stub: StubGrid) -> None:
    with pytest.warns(UserWarning, match="not used any more"):
        AWSConnector().init(config_of(stub), redis_custom_connection=object())


def test_a_missing_key_is_named(stub: StubGrid) -> None:
    config = config_of(stub)
    del config["cognito_userpool_client_id"]
    with pytest.raises(ProfileInvalid, match="'cognito_userpool_client_id'"):
        AWSConnector().init(config)


def test_the_order_of_calls_is_told(stub: StubGrid) -> None:
    connector = AWSConnector()
    with pytest.raises(AuthenticationFailed, match=r"call init\(\) before"):
        connector.authenticate()
    connector.init(config_of(stub), username=USER, password="wrong")
    with pytest.raises(AuthenticationFailed, match=r"call init\(\) and authenticate\(\)"):
        connector.send([])
    with pytest.raises(AuthenticationFailed, match="password is wrong"):
        connector.authenticate()
