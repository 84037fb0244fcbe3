"""What the control plane does when a service refuses, and what it is told by its environment."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import boto3
import pytest
from botocore.stub import ANY, Stubber
from tests.support.control_plane_harness import START, TENANT

from htcgrid_chunks.errors import ChunkStoreError, StorageUnavailable
from htcgrid_chunks.partiql import (
    MAX_STATEMENTS,
    Batches,
    Statement,
)
from htcgrid_controlplane.errors import ControlPlaneError
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.settings import BadSettings, Settings
from htcgrid_events import Account, Priority, SessionCreated, SessionEnded, SessionOptions, SessionState

SESSION = Session("5" * 32, TENANT, SessionOptions(), START, START + 1000)
CREATED = SessionCreated(
    session_id=SESSION.session_id, tenant=TENANT, options=SESSION.options, created_at=START, deadline_at=START
)
URLS = {"default": dict.fromkeys(Priority, "https://sqs.us-east-1.amazonaws.com/1/tasks")}


class Service:
    """A client that gives the answers which a test has laid down, and only those."""

    def __init__(self, name: Literal["sqs", "events", "dynamodb"]) -> None:
        self.client: Any = boto3.client(name)
        self._stub = Stubber(self.client)
        self._stub.activate()

    def answers(self, operation: str, answer: dict[str, Any], request: dict[str, Any] | None = None) -> None:
        self._stub.add_response(operation, answer, request)

    def assert_all_asked(self) -> None:
        self._stub.assert_no_pending_responses()


@pytest.fixture
def stubbed(moto: None) -> Iterator[dict[str, Service]]:
    services = {"sqs": Service("sqs"), "events": Service("events"), "dynamodb": Service("dynamodb")}
    yield services
    for service in services.values():
        service.assert_all_asked()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("htcgrid_controlplane.outbound.sqs.time.sleep", waited.append)
    return waited


def refused(*ids: int) -> dict[str, Any]:
    failed = [{"Id": str(number), "SenderFault": False, "Code": "InternalError"} for number in ids]
    return {"Successful": [], "Failed": failed}


def test_only_refused_messages_are_sent_again_and_after_a_wait(stubbed: dict[str, Service], waits: list[float]) -> None:
    stub = stubbed["sqs"]
    stub.answers("send_message_batch", refused(2))
    expected = {"QueueUrl": ANY, "Entries": [{"Id": "2", "MessageBody": ANY, "MessageGroupId": TENANT}]}
    stub.answers("send_message_batch", refused(), expected)
    TaskQueues(stub.client, URLS).send(SESSION, [1, 2, 3])
    assert len(waits) == 1


def test_messages_that_are_refused_for_long_are_an_error_that_may_pass(
    stubbed: dict[str, Service], waits: list[float]
) -> None:
    for _ in range(6):
        stubbed["sqs"].answers("send_message_batch", refused(1))
    with pytest.raises(StorageUnavailable, match="InternalError") as refusal:
        TaskQueues(stubbed["sqs"].client, URLS).send(SESSION, [1])
    assert refusal.value.retryable
    assert max(waits) <= 1


def test_an_event_that_the_bus_refuses_is_an_error(stubbed: dict[str, Service]) -> None:
    entries = [{"EventId": "1"}, {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow"}]
    stubbed["events"].answers("put_events", {"FailedEntryCount": 1, "Entries": entries})
    with pytest.raises(StorageUnavailable, match="ThrottlingException"):
        EventBus(stubbed["events"].client, "bus").put([("Session Created", CREATED)] * 2)


def test_events_go_ten_at_a_time_and_as_their_contract_says(stubbed: dict[str, Service]) -> None:
    for count in (10, 3):
        entry = {
            "EventBusName": "bus", "Source": "htcgrid", "DetailType": "Session Created",
            "Detail": CREATED.model_dump_json(),
        }  # fmt: skip
        stubbed["events"].answers("put_events", {"FailedEntryCount": 0, "Entries": []}, {"Entries": [entry] * count})
    bus = EventBus(stubbed["events"].client, "bus")
    bus.put([("Session Created", CREATED)] * 13)
    ended = SessionEnded(
        session_id=SESSION.session_id, tenant=TENANT, state=SessionState.FAILED, account=Account(),
        created_at=START, ended_at=START,
    )  # fmt: skip
    with pytest.raises(TypeError, match="SessionCreated"):
        bus.put([("Session Created", ended)])


def test_only_throttled_statements_are_repeated(stubbed: dict[str, Service]) -> None:
    slow = {"Error": {"Code": "ThrottlingError", "Message": "slow"}}
    no = {"Error": {"Code": "ConditionalCheckFailed", "Message": "no", "Item": {"chunk": {"N": "7"}}}}
    stub = stubbed["dynamodb"]
    stub.answers("batch_execute_statement", {"Responses": [{}] * (MAX_STATEMENTS - 1) + [slow]})
    stub.answers("batch_execute_statement", {"Responses": [slow, no]})
    stub.answers("batch_execute_statement", {"Responses": [{}, {}]})
    waits: list[float] = []
    written = Batches(stub.client, waits.append).execute([Statement("S", [{"N": "1"}])] * (MAX_STATEMENTS + 2))
    assert [each.accepted for each in written] == [True] * (MAX_STATEMENTS + 1) + [False]
    assert written[-1].item is not None
    assert written[-1].item.number("chunk") == 7
    assert len(waits) == 1


def test_statements_that_stay_throttled_or_fail_otherwise_are_an_error(stubbed: dict[str, Service]) -> None:
    stub, waits = stubbed["dynamodb"], list[float]()
    for _ in range(8):
        error = {"Error": {"Code": "ThrottlingError", "Message": "slow"}}
        stub.answers("batch_execute_statement", {"Responses": [error]})
    with pytest.raises(StorageUnavailable, match="slow"):
        Batches(stub.client, waits.append).execute([Statement("S", [{"N": "1"}])])
    assert all(wait <= 2 for wait in waits)
    wrong = {"Error": {"Code": "ValidationError", "Message": "no such thing"}}
    stub.answers("batch_execute_statement", {"Responses": [wrong]})
    with pytest.raises(StorageUnavailable, match="no such thing"):
        Batches(stub.client, waits.append).execute([Statement("S", [{"N": "1"}])])


ENVIRONMENT = {
    "HTCGRID_SESSIONS_TABLE": "s", "HTCGRID_CHUNKS_TABLE": "c", "HTCGRID_CONNECTIONS_TABLE": "n",
    "HTCGRID_DEAD_LETTERS_TABLE": "d",
    "HTCGRID_TASK_QUEUE_URLS": json.dumps(URLS), "HTCGRID_TASK_EVENTS_QUEUE_URL": "u",
    "HTCGRID_DATA_BUCKET": "b", "HTCGRID_EVENT_BUS": "e",
    "HTCGRID_NOTIFICATION_TOPIC": "t", "HTCGRID_PUSH_ENDPOINT": "https://push", "HTCGRID_RETENTION_DAYS": "7",
}  # fmt: skip


def test_settings_are_read_from_the_environment() -> None:
    settings = Settings.from_environment({**ENVIRONMENT, "PATH": "/bin"})
    assert settings.retention_days == 7
    assert settings.task_queue_urls == URLS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTCGRID_SESSIONS_TABLE", None),
        ("HTCGRID_RETENTION_DAYS", "0"),
        ("HTCGRID_TASK_QUEUE_URLS", "{"),
        ("HTCGRID_TASK_QUEUE_URLS", '{"default": {"urgent": "u"}}'),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str | None) -> None:
    environment = {key: of for key, of in {**ENVIRONMENT, name: value}.items() if of is not None}
    with pytest.raises(BadSettings, match=name):
        Settings.from_environment(environment)


def test_every_error_says_whether_asking_again_may_help() -> None:
    kinds: list[type[ControlPlaneError | ChunkStoreError]] = [
        *ControlPlaneError.__subclasses__(),
        *ChunkStoreError.__subclasses__(),
    ]
    assert {kind.__name__ for kind in kinds if kind.retryable} == {
        "AccountOpen",
        "SessionChanged",
        "StorageUnavailable",
    }
    assert all((kind.__doc__ or "").startswith("Raised when") for kind in kinds)
