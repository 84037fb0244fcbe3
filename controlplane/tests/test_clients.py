"""What the control plane does when a service refuses, and what it is told by its environment."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import boto3
import pytest
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st
from tests.support.control_plane_harness import START, TENANT, Harness

from htcgrid_chunks.errors import ChunkStoreError, StorageUnavailable, WriteRefused
from htcgrid_chunks.partiql import (
    MAX_STATEMENTS,
    Batches,
    Statement,
)
from htcgrid_controlplane.errors import ControlPlaneError
from htcgrid_controlplane.outbound.batches import batches
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.sqs import MessageSender
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.settings import BadSettings, Settings
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_events import FailedTask, Priority, SessionCreated, SessionOptions, TasksRetrying

SESSION = Session("5" * 32, TENANT, SessionOptions(), START, START + 1000)
CREATED = SessionCreated(
    session_id=SESSION.session_id, tenant=TENANT, options=SESSION.options, created_at=START, deadline_at=START
)
URLS = dict.fromkeys(Priority, "https://sqs.us-east-1.amazonaws.com/1/tasks")
PARTITIONS = KnownPartitions(lambda: [Partition("default", "stack", URLS)], lambda: 0)


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


def refused(*ids: int, code: str = "InternalError", sender_fault: bool = False) -> dict[str, Any]:
    failed = [{"Id": str(number), "SenderFault": sender_fault, "Code": code} for number in ids]
    return {"Successful": [], "Failed": failed}


def message(number: int) -> dict[str, Any]:
    return {"Id": str(number), "MessageBody": ANY, "MessageGroupId": TENANT}


def failing(code: str) -> dict[str, Any]:
    return {"ErrorCode": code, "ErrorMessage": "no"}


def test_only_refused_messages_are_sent_again_and_after_a_wait(stubbed: dict[str, Service]) -> None:
    waits: list[float] = []
    stub = stubbed["sqs"]
    stub.answers("send_message_batch", refused(2))
    stub.answers("send_message_batch", refused(), {"QueueUrl": ANY, "Entries": [message(2)]})
    TaskQueues(MessageSender(stub.client, sleep=waits.append), PARTITIONS).send(SESSION, [1, 2, 3])
    assert len(waits) == 1


@pytest.mark.parametrize(("code", "sender_fault"), [("InternalError", False), ("KmsAccessDenied", True)])
def test_messages_that_are_refused_for_long_are_a_retryable_error_after_all_others_were_sent(
    stubbed: dict[str, Service], code: str, sender_fault: bool
) -> None:
    waits: list[float] = []
    for _ in range(6):
        stubbed["sqs"].answers("send_message_batch", refused(1, code=code, sender_fault=sender_fault))
    stubbed["sqs"].answers("send_message_batch", refused(), {"QueueUrl": ANY, "Entries": [message(11)]})
    with pytest.raises(StorageUnavailable, match=code) as refusal:
        TaskQueues(MessageSender(stubbed["sqs"].client, sleep=waits.append), PARTITIONS).send(SESSION, range(1, 12))
    assert refusal.value.retryable
    assert max(waits) <= 1


def test_a_message_that_is_refused_for_good_holds_up_no_other_and_is_counted(stubbed: dict[str, Service]) -> None:
    counted: Counter[str] = Counter()
    answer = refused(1, code="InvalidMessageContents", sender_fault=True)
    answer["Failed"] += refused(2)["Failed"]
    stubbed["sqs"].answers("send_message_batch", answer)
    stubbed["sqs"].answers("send_message_batch", refused(), {"QueueUrl": ANY, "Entries": [message(2)]})
    sender = MessageSender(stubbed["sqs"].client, lambda name, value: counted.update({name: value}), lambda _: None)
    TaskQueues(sender, PARTITIONS).send(SESSION, [1, 2, 3])
    assert counted == {"MessagesRefused": 1}


def test_an_event_that_the_bus_keeps_refusing_is_an_error_after_all_others_were_put(
    stubbed: dict[str, Service],
) -> None:
    for tried in range(5):
        entries = [failing("ThrottlingException"), *([{"EventId": "1"}] * (9 if not tried else 0))]
        stubbed["events"].answers("put_events", {"FailedEntryCount": 1, "Entries": entries})
    stubbed["events"].answers("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "2"}]})
    with pytest.raises(StorageUnavailable, match="ThrottlingException"):
        EventBus(stubbed["events"].client, "bus", sleep=lambda _: None).put([CREATED] * 11)


def test_an_event_that_is_refused_for_good_holds_up_no_other_and_is_counted(stubbed: dict[str, Service]) -> None:
    counted: Counter[str] = Counter()
    entries = [failing("MalformedDetail"), {"EventId": "1"}]
    stubbed["events"].answers("put_events", {"FailedEntryCount": 1, "Entries": entries})
    bus = EventBus(stubbed["events"].client, "bus", lambda name, value: counted.update({name: value}))
    bus.put([CREATED] * 2)
    assert counted == {"EventsRefused": 1}


def test_events_go_ten_at_a_time_and_as_their_contract_says(stubbed: dict[str, Service]) -> None:
    for count in (10, 3):
        entry = {
            "EventBusName": "bus", "Source": "htcgrid", "DetailType": "Session Created",
            "Detail": CREATED.model_dump_json(),
        }  # fmt: skip
        answer = {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}] * count}
        stubbed["events"].answers("put_events", answer, {"Entries": [entry] * count})
    EventBus(stubbed["events"].client, "bus").put([CREATED] * 13)


@given(
    sizes=st.lists(st.integers(0, 50), max_size=40),
    most=st.integers(1, 10),
    room=st.integers(1, 100),
)
def test_batches_keep_their_bounds_and_their_order(sizes: list[int], most: int, room: int) -> None:
    made = list(batches(sizes, lambda size: size, most, room))
    assert [size for batch in made for size in batch] == sizes
    assert all(1 <= len(batch) <= most for batch in made)
    assert all(sum(batch) <= room or len(batch) == 1 for batch in made)


def test_events_of_any_text_are_ascii_and_stay_below_the_size_of_a_request(harness: Harness) -> None:
    # One character of every plane of Unicode, and those that SQS refuses.
    texts = [chr(plane << 16 | 0xFFFF) for plane in range(17)] + ["\ufffe", "\x00", "\x1b"]
    failed = [
        FailedTask(task_id="t", kind="handler", type=each * 500, message=each * 500, attempts=1) for each in texts
    ]
    retrying = [
        TasksRetrying(
            session_id=SESSION.session_id, tenant=TENANT, chunk=0, attempt=1, retry_at=0,
            tasks=tuple(failed[first : first + 10]), failed=10,
        )
        for first in (0, 10)
    ] * 10  # fmt: skip
    assert all(event.to_json().isascii() for event in retrying)
    harness.grid.bus.put(retrying)  # the harness checks the size of each request
    assert len(harness.events()) == 20


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
    wrong = {"Error": {"Code": "ResourceNotFound", "Message": "no such thing"}}
    stub.answers("batch_execute_statement", {"Responses": [wrong]})
    with pytest.raises(StorageUnavailable, match="no such thing"):
        Batches(stub.client, waits.append).execute([Statement("S", [{"N": "1"}])])


def test_a_statement_that_is_refused_for_good_does_not_keep_others_from_being_executed(
    stubbed: dict[str, Service],
) -> None:
    bad = {"Error": {"Code": "ValidationError", "Message": "the text of a user"}}
    slow = {"Error": {"Code": "ThrottlingError", "Message": "slow"}}
    stub, waits = stubbed["dynamodb"], list[float]()
    stub.answers("batch_execute_statement", {"Responses": [bad, slow] + [{}] * (MAX_STATEMENTS - 2)})
    stub.answers("batch_execute_statement", {"Responses": [{}]})
    stub.answers("batch_execute_statement", {"Responses": [{}]})
    with pytest.raises(WriteRefused, match=r"ValidationError$") as refusal:
        Batches(stub.client, waits.append).execute([Statement("S", [{"N": "1"}])] * (MAX_STATEMENTS + 1))
    assert not refusal.value.retryable
    assert len(waits) == 1


ENVIRONMENT = {
    "HTCGRID_SESSIONS_TABLE": "s", "HTCGRID_CHUNKS_TABLE": "c", "HTCGRID_CONNECTIONS_TABLE": "n",
    "HTCGRID_DEAD_LETTERS_TABLE": "d", "HTCGRID_TENANTS_TABLE": "l", "HTCGRID_DATA_TABLE": "a",
    "HTCGRID_TENANT_LIMITS": '{"open_sessions": 1, "tasks": 1, "submissions_per_second": 1, "bytes_per_day": 1, '
    '"data_gigabytes": 1, "high_priority": true, "task_timeout_seconds": 1}',
    "HTCGRID_TASK_EVENTS_QUEUE_URL": "u",
    "HTCGRID_DATA_BUCKET": "b", "HTCGRID_EVENT_BUS": "e",
    "HTCGRID_NOTIFICATION_TOPIC": "t", "HTCGRID_PUSH_ENDPOINT": "https://push", "HTCGRID_RETENTION_DAYS": "7",
    "HTCGRID_PARTITIONS_TABLE": "p", "HTCGRID_GRID": "g", "HTCGRID_AGENT_WORKERS": "1",
    "HTCGRID_SCALING_TARGET_SECONDS": "60",
}  # fmt: skip


def test_settings_are_read_from_the_environment() -> None:
    settings = Settings.from_environment({**ENVIRONMENT, "PATH": "/bin"})
    assert settings.retention_days == 7
    assert settings.partitions_table == "p"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTCGRID_SESSIONS_TABLE", None),
        ("HTCGRID_RETENTION_DAYS", "0"),
        ("HTCGRID_TENANT_LIMITS", '{"open_sessions": 0}'),
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
        "DataBusy",
        "QuotaExceeded",
        "ScalingFailed",
        "SessionChanged",
        "StorageUnavailable",
    }
    assert all((kind.__doc__ or "").startswith("Raised when") for kind in kinds)
