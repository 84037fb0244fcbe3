"""What SQS must refuse, and say when it does, for what the grid sends, hides and deletes to be right.

The tests run on the embedded AWS, and on ElasticMQ where the run is a second opinion. A server that does otherwise is
named with the test in `differences.py`.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError

from htcgrid_agent.aws.sqs import MAX_BATCH, MAX_VISIBILITY_SECONDS, MAX_WAIT_SECONDS
from tests.support.embedded_aws import point_at

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

GONE = {"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"}
"""What SQS may say of a message that is not there any more (ChangeMessageVisibility, Amazon SQS API Reference)."""


@dataclass(frozen=True)
class Queue:
    """A standard queue."""

    client: "SQSClient"
    url: str

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.client.send_message(QueueUrl=self.url, MessageBody=body)

    def receive(self, visibility: int = 60) -> dict[str, str]:
        """Take a message: its body and its receipt."""
        response = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=visibility, WaitTimeSeconds=1
        )
        return {message["Body"]: message["ReceiptHandle"] for message in response.get("Messages", [])}

    def hide(self, receipt: str, seconds: int) -> str | None:
        """Hide a message for so long. Gives the code of the refusal, if it is one."""
        response = self.client.change_message_visibility_batch(
            QueueUrl=self.url,
            Entries=[{"Id": "0", "ReceiptHandle": receipt, "VisibilityTimeout": seconds}],
        )
        return next((failure["Code"] for failure in response.get("Failed", [])), None)

    def delete(self, receipt: str) -> str | None:
        """Delete a message. Gives the code of the refusal, if it is one."""
        response = self.client.delete_message_batch(QueueUrl=self.url, Entries=[{"Id": "0", "ReceiptHandle": receipt}])
        return next((failure["Code"] for failure in response.get("Failed", [])), None)


@pytest.fixture
def queue(embedded_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    point_at(embedded_environment, monkeypatch)
    client = boto3.session.Session().client("sqs")
    queue = Queue(client, client.create_queue(QueueName=f"refusals-{uuid.uuid4().hex[:12]}")["QueueUrl"])
    yield queue
    client.delete_queue(QueueUrl=queue.url)


def entries(count: int, size: int = 1) -> "list[SendMessageBatchRequestEntryTypeDef]":
    return [{"Id": str(number), "MessageBody": "x" * size} for number in range(count)]


def refusal(request: pytest.ExceptionInfo[ClientError]) -> str:
    return request.value.response["Error"]["Code"].rpartition(".")[2]


def test_more_messages_than_a_batch_holds_are_refused(queue: Queue) -> None:
    with pytest.raises(ClientError) as caught:
        queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries(MAX_BATCH + 1))
    assert refusal(caught) == "TooManyEntriesInBatchRequest"
    assert (
        len(queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries(MAX_BATCH))["Successful"]) == MAX_BATCH
    )


def test_an_id_twice_in_a_batch_is_refused(queue: Queue) -> None:
    with pytest.raises(ClientError) as caught:
        queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries(1) + entries(1))
    assert refusal(caught) == "BatchEntryIdsNotDistinct"
    assert queue.receive() == {}


def test_a_batch_of_more_than_a_mebibyte_is_refused(queue: Queue) -> None:
    with pytest.raises(ClientError):
        queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries(10, 105_000))
    assert queue.receive() == {}


def test_a_batch_of_nearly_a_mebibyte_is_accepted(queue: Queue) -> None:
    assert len(queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries(10, 104_000))["Successful"]) == 10


def test_a_message_is_hidden_from_others_until_it_is_shown_again(queue: Queue) -> None:
    queue.send("a", "b")
    receipts: dict[str, str] = {}
    while len(receipts) < 2:
        receipts |= queue.receive()
    assert queue.receive() == {}
    assert queue.hide(receipts["a"], 0) is None
    assert list(queue.receive()) == ["a"]


def test_a_deleted_message_cannot_be_hidden(queue: Queue) -> None:
    queue.send("a")
    receipt = queue.receive()["a"]
    assert queue.delete(receipt) is None
    assert queue.hide(receipt, 30) in GONE


def test_a_deletion_may_be_repeated(queue: Queue) -> None:
    queue.send("a")
    receipt = queue.receive()["a"]
    assert [queue.delete(receipt), queue.delete(receipt)] == [None, None]


def test_a_message_cannot_be_hidden_for_more_than_twelve_hours(queue: Queue) -> None:
    queue.send("a")
    receipt = queue.receive()["a"]
    assert queue.hide(receipt, MAX_VISIBILITY_SECONDS + 1) is not None


def test_what_is_no_receipt_is_refused_alone(queue: Queue) -> None:
    queue.send("a")
    receipt = queue.receive()["a"]
    response = queue.client.delete_message_batch(
        QueueUrl=queue.url,
        Entries=[{"Id": "0", "ReceiptHandle": "no receipt"}, {"Id": "1", "ReceiptHandle": receipt}],
    )
    assert [(failure["Id"], failure["Code"]) for failure in response["Failed"]] == [("0", "ReceiptHandleIsInvalid")]
    assert [done["Id"] for done in response["Successful"]] == ["1"]


@pytest.mark.parametrize("most", [0, MAX_BATCH + 1])
def test_none_and_more_than_ten_messages_cannot_be_asked_for(queue: Queue, most: int) -> None:
    with pytest.raises(ClientError):
        queue.client.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=most)


def test_a_long_poll_of_more_than_twenty_seconds_is_refused(queue: Queue) -> None:
    queue.send("that ends the poll of a server that accepts it")
    with pytest.raises(ClientError):
        queue.client.receive_message(QueueUrl=queue.url, WaitTimeSeconds=MAX_WAIT_SECONDS + 1)
