"""The registry of partitions, what sessions see of it, and the function that stacks call."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from tests.support.control_plane_harness import TENANT, Harness, inputs

from htcgrid_controlplane import observability
from htcgrid_controlplane.errors import PartitionDraining, PartitionInUse, PartitionTaken, UnknownPartition
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.services.partitions import SETTLED
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_events import AddChunks, CreateSession, Priority, RedriveTasks, SessionOptions, SessionState, new_id

_APP = Path(__file__).resolve().parents[2] / "functions/partition_registry/app.py"
STACK = "arn:aws:cloudformation:eu-west-1:123456789012:stack/grid-large/1"
OTHER = "arn:aws:cloudformation:eu-west-1:123456789012:stack/grid-other/2"


def queues(harness: Harness) -> dict[Priority, str]:
    return {priority: harness.queue_url(priority) for priority in Priority}


@pytest.fixture(autouse=True)
def _waits(own_harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the test's grid pass what its partitions wait for."""

    def sleep(seconds: float) -> None:
        own_harness.clock.now += int(seconds * 1000)

    partitions = replace(own_harness.grid.stack_partitions, sleep=sleep)
    monkeypatch.setitem(own_harness.grid.__dict__, "stack_partitions", partitions)


@pytest.fixture
def name(own_harness: Harness) -> str:
    """A partition that the test's grid has besides `default`."""
    own_harness.grid.stack_partitions.register(Partition("large", STACK, queues(own_harness)))
    own_harness.clock.now += 11_000
    return "large"


def registered(harness: Harness) -> dict[str, Partition]:
    return {each.name: each for each in harness.grid.partition_registry.partitions()}


# --- the registry ---


def test_a_stack_registers_its_partition_and_changes_it(own_harness: Harness, name: str) -> None:
    changed = Partition(name, STACK, dict.fromkeys(Priority, "https://sqs/other"))
    own_harness.grid.stack_partitions.register(changed)
    assert registered(own_harness)[name] == changed
    assert set(registered(own_harness)) == {"default", name}


def test_a_name_that_another_stack_has_is_refused_and_stays_its(own_harness: Harness, name: str) -> None:
    partitions = own_harness.grid.stack_partitions
    with pytest.raises(PartitionTaken, match="Another stack has a partition 'large'"):
        partitions.register(Partition(name, OTHER, {}))
    # A stack whose creation was refused deletes what it asked for.
    partitions.remove(name, OTHER)
    assert registered(own_harness)[name] == Partition(name, STACK, queues(own_harness))


def test_a_partition_without_sessions_is_forgotten(own_harness: Harness, name: str) -> None:
    own_harness.grid.stack_partitions.remove(name, STACK)
    assert set(registered(own_harness)) == {"default"}
    own_harness.grid.stack_partitions.remove(name, STACK)


def test_a_partition_with_sessions_stays_until_they_have_ended_and_takes_no_new_ones(
    own_harness: Harness, name: str
) -> None:
    grid = own_harness.grid
    options = SessionOptions(partition=name)
    held = grid.submissions.create(TENANT, new_id(), CreateSession(options=options))
    own_harness.create(1)
    before = own_harness.clock()
    with pytest.raises(PartitionInUse, match="'large' still has 1 open session, and takes no new ones: wait for them"):
        grid.stack_partitions.remove(name, STACK)
    # Until then whoever had not heard of it could have had a session on its way.
    assert own_harness.clock() - before == SETTLED / timedelta(milliseconds=1)
    with pytest.raises(PartitionDraining, match="'large' is being removed; there is default"):
        grid.submissions.create(TENANT, new_id(), CreateSession(options=options))
    # What it has goes on.
    grid.submissions.add(TENANT, held.session_id, AddChunks(chunks=inputs(1)))
    assert len(own_harness.messages()) == 2
    with pytest.raises(PartitionInUse):
        grid.stack_partitions.remove(name, STACK)
    assert own_harness.clock() - before == SETTLED / timedelta(milliseconds=1)
    # The stack stays after all.
    grid.stack_partitions.register(Partition(name, STACK, queues(own_harness)))
    own_harness.clock.now += 11_000
    grid.submissions.create(TENANT, new_id(), CreateSession(options=options))


def test_a_session_of_a_partition_that_was_removed_stays_ended(own_harness: Harness, name: str) -> None:
    grid = own_harness.grid
    session = own_harness.create(1, partition=name)
    grid.completions.record(session.session_id, own_harness.finish(session, {0: "F"}))
    grid.lifecycle.end(session.session_id, EndReason.DONE)
    grid.stack_partitions.remove(name, STACK)
    own_harness.clock.now += 11_000
    with pytest.raises(UnknownPartition, match="no partition 'large'"):
        grid.redrives.redrive(TENANT, session.session_id, RedriveTasks())
    assert own_harness.read(session).state is SessionState.FAILED


# --- as functions know it ---


def test_an_unknown_partition_is_refused_with_the_names_that_there_are(own_harness: Harness, name: str) -> None:
    with pytest.raises(UnknownPartition, match="no partition 'gpu' in this grid; there is default, large"):
        own_harness.create(1, partition="gpu")


def _known(answers: list[Any]) -> tuple[KnownPartitions, list[int], Callable[[], int]]:
    moment, read = [0], [0]

    def next_answer() -> list[Partition]:
        read[0] += 1
        answer = answers[min(read[0], len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return [Partition(each, STACK, {}) for each in answer]

    return KnownPartitions(next_answer, lambda: moment[0]), moment, lambda: read[0]


def test_the_registry_is_read_once_in_ten_seconds() -> None:
    known, moment, read = _known([["a"], ["a", "b"]])
    assert [sorted(known.names), sorted(known.names)] == [["a"], ["a"]]
    assert read() == 1
    moment[0] = 10_000
    assert sorted(known.names) == ["a", "b"]


def test_a_new_partition_is_known_a_second_later_and_unknown_names_cost_no_more() -> None:
    known, moment, read = _known([["a"], ["a"], ["a", "b"]])
    known.find("a")
    for _ in range(100):
        with pytest.raises(UnknownPartition):
            known.find("b")
    assert read() == 1
    moment[0] = 1_000
    with pytest.raises(UnknownPartition):
        known.find("b")
    moment[0] = 2_000
    assert known.find("b").name == "b"
    assert read() == 3


def test_a_registry_that_does_not_answer_leaves_what_is_known() -> None:
    outage = EndpointConnectionError(endpoint_url="https://dynamodb")
    known, moment, _ = _known([outage, ["a"], outage])
    with pytest.raises(EndpointConnectionError):
        known.find("a")
    known.find("a")
    moment[0] = 10_000
    assert known.find("a").name == "a"


# --- the function ---


@pytest.fixture
def answers() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where a stack waits for answers, and those that came."""
    received: list[dict[str, Any]] = []

    class Stack(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert not self.headers.get("Content-Type")
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stack)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/answer", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def function(own_harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(observability, "control_plane", lambda: own_harness.grid)
    spec = importlib.util.spec_from_file_location("partition_registry_app", _APP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(function: ModuleType, url: str, kind: str, properties: dict[str, Any], resource: str = "") -> None:
    event = {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": STACK,
        "RequestId": "request-1",
        "LogicalResourceId": "Registration",
        "ResourceProperties": {"ServiceToken": "arn", **properties},
    }
    if resource:
        event["PhysicalResourceId"] = resource
    context = SimpleNamespace(
        function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="r-1"
    )  # fmt: skip
    function.handler(event, context)


def test_a_stack_registers_and_removes_a_partition_and_is_answered(
    own_harness: Harness, function: ModuleType, answers: tuple[str, list[dict[str, Any]]]
) -> None:
    url, received = answers
    urls = {priority: f"https://sqs/{priority}" for priority in Priority}
    ask(function, url, "Create", {"Name": "gpu", "QueueUrls": urls})
    assert registered(own_harness)["gpu"] == Partition("gpu", STACK, urls)
    ask(function, url, "Delete", {"Name": "gpu", "QueueUrls": urls}, received[0]["PhysicalResourceId"])
    assert set(registered(own_harness)) == {"default"}
    done = {
        "Status": "SUCCESS",
        "Reason": "",
        "PhysicalResourceId": "partition/gpu",
        "StackId": STACK,
        "RequestId": "request-1",
        "LogicalResourceId": "Registration",
    }
    assert received == [done, done]


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, "The properties of the partition are not right: Name: Field required; QueueUrls: Field required."),
        ({"Name": "Large!", "QueueUrls": dict.fromkeys(Priority, "u")}, "Name: String should match pattern"),
        ({"Name": "gpu", "QueueUrls": {"high": "u"}}, "QueueUrls: Dictionary should have at least 3 items"),
        ({"Name": "default", "QueueUrls": dict.fromkeys(Priority, "u")}, "Another stack has a partition 'default'"),
    ],
)
def test_what_cannot_be_registered_is_answered_with_the_reason(
    own_harness: Harness,
    function: ModuleType,
    answers: tuple[str, list[dict[str, Any]]],
    properties: dict[str, Any],
    reason: str,
) -> None:
    url, received = answers
    ask(function, url, "Create", properties)
    assert received[0]["Status"] == "FAILED"
    assert reason in received[0]["Reason"]
    assert set(registered(own_harness)) == {"default"}


def test_a_fault_of_ours_is_answered_too(
    own_harness: Harness,
    function: ModuleType,
    answers: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_harness.grid.partition_registry, "_table", "none-of-this-name")
    url, received = answers
    ask(function, url, "Create", {"Name": "gpu", "QueueUrls": dict.fromkeys(Priority, "u")})
    assert received[0]["Status"] == "FAILED"
    assert received[0]["Reason"] == ("The partition could not be registered: see the log of the function, request r-1.")
