"""The queues of an agent: receiving, deleting and hiding task messages, and sending events. All in batches."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from htcgrid_agent.aws.entries import EntryResult, send_isolated
from htcgrid_agent.work.job import Delivery
from htcgrid_chunks.clock import Clock
from htcgrid_events import ChunkFinished, ChunkQueued, Priority, TasksRetrying

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef, MessageTypeDef

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
MAX_BATCH = 10
"""Most messages in one request (Amazon SQS API Reference)."""
MAX_BATCH_BYTES = 1024 * 1024
"""Most bytes of all messages in one request (Amazon SQS API Reference); one message may have as many."""
MAX_WAIT_SECONDS = 20
"""Longest long poll (Amazon SQS API Reference)."""
MAX_VISIBILITY_SECONDS = 43_200
"""Longest time that a message can be hidden (Amazon SQS API Reference)."""
_HIDDEN_SECONDS = 15
"""A long poll cannot be cancelled. A message that it receives after its agent has ended is hidden for this long, so it
is shorter than a lease."""
_GONE = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"})
"""Codes for a message that was deleted, or was received by another agent meanwhile."""
_TRANSIENT_FAULTS = ("Kms", "KMS", "RequestThrottled", "Throttl", "OverLimit", "AccessDenied")
"""How codes begin that SQS calls a fault of the sender though the same entry may be accepted later."""


class TaskMessages:
    """The messages of the task queues of a partition, one queue per priority."""

    def __init__(self, client: "SQSClient", urls: Mapping[Priority, str], lease_seconds: int, clock: Clock) -> None:
        self._client = client
        self._urls = urls
        self.hidden_for = timedelta(seconds=min(lease_seconds, _HIDDEN_SECONDS))
        """For how long a message is hidden when it is received. The lease keeper hides it for longer."""
        self._clock = clock

    @property
    def priorities(self) -> list[Priority]:
        """The priorities that have a queue."""
        return list(self._urls)

    def receive(self, priority: Priority, max_messages: int) -> list[Delivery]:
        """Wait up to 20 s for messages and receive up to `max_messages` and 10, hidden for `hidden_for`."""
        url = self._urls[priority]
        response = self._client.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(max_messages, MAX_BATCH),
            WaitTimeSeconds=MAX_WAIT_SECONDS,
            VisibilityTimeout=int(self.hidden_for.total_seconds()),
            AttributeNames=["SentTimestamp"],
        )
        now = self._clock()
        deliveries = (_delivery(message, priority, url, now) for message in response.get("Messages", []))
        return [delivery for delivery in deliveries if delivery]

    def delete(self, deliveries: Sequence[Delivery]) -> list[EntryResult]:
        """Delete messages."""
        return _by_queue(deliveries, deliveries, self._delete_some)

    def hide(self, waits: Sequence[tuple[Delivery, int]]) -> list[EntryResult]:
        """Show each message again after so many seconds."""
        return _by_queue(waits, [delivery for delivery, _ in waits], self._hide_some)

    def _delete_some(self, url: str, deliveries: Sequence[Delivery]) -> list[EntryResult]:
        response = self._client.delete_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": delivery.receipt} for index, delivery in enumerate(deliveries)
            ],
        )
        return _results(len(deliveries), response.get("Failed", []), gone=_GONE)

    def _hide_some(self, url: str, waits: Sequence[tuple[Delivery, int]]) -> list[EntryResult]:
        response = self._client.change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {
                    "Id": str(index),
                    "ReceiptHandle": delivery.receipt,
                    "VisibilityTimeout": max(0, min(seconds, MAX_VISIBILITY_SECONDS)),
                }
                for index, (delivery, seconds) in enumerate(waits)
            ],
        )
        return _results(len(waits), response.get("Failed", []), gone=_GONE)


class TaskEvents:
    """The task events that are sent to the control plane."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    @staticmethod
    def body(event: ChunkFinished | TasksRetrying) -> str:
        """An event as it is sent. ASCII, since SQS refuses some characters that a task's error may contain."""
        return event.to_json()

    def send(self, bodies: Sequence[str]) -> list[EntryResult]:
        """Send up to 10 events, in several requests where they are too large for one."""
        return [result for some in _fitting(bodies) for result in send_isolated(self._send, some, EntryResult.REFUSED)]

    def _send(self, bodies: Sequence[str]) -> list[EntryResult]:
        response = self._client.send_message_batch(
            QueueUrl=self._url,
            Entries=[{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)],
        )
        return _results(len(bodies), response.get("Failed", []))


def _fitting(bodies: Sequence[str]) -> Iterator[list[str]]:
    """Cut ASCII texts into batches of at most `MAX_BATCH_BYTES`, but of at least one text."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        if batch and size + len(body) > MAX_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += len(body)
    if batch:
        yield batch


def _by_queue(
    entries: Sequence[T], deliveries: Sequence[Delivery], send: Callable[[str, Sequence[T]], Sequence[EntryResult]]
) -> list[EntryResult]:
    """Send entries to the queue of their delivery, 10 per request; the results are in their order."""
    by_url: defaultdict[str, list[int]] = defaultdict(list)
    for index, delivery in enumerate(deliveries):
        by_url[delivery.queue_url].append(index)
    results = [EntryResult.RETRY] * len(entries)
    for url, indexes in by_url.items():
        for start in range(0, len(indexes), MAX_BATCH):
            some = indexes[start : start + MAX_BATCH]
            for index, result in zip(some, send(url, [entries[index] for index in some]), strict=True):
                results[index] = result
    return results


def _results(
    count: int, failed: "Iterable[BatchResultErrorEntryTypeDef]", gone: frozenset[str] = frozenset()
) -> list[EntryResult]:
    """The results of a request of `count` entries, whose ids are their positions."""
    results = [EntryResult.ACCEPTED] * count
    for entry in failed:
        code = entry.get("Code", "")
        if code in gone:
            _LOG.info("a message is no longer held by this agent: %s", code)
        elif entry.get("SenderFault") and not code.startswith(_TRANSIENT_FAULTS):
            _LOG.error("SQS refuses an entry for good: %s", code)
            results[int(entry["Id"])] = EntryResult.REFUSED
        else:
            _LOG.warning("SQS refused an entry for now: %s", code)
            results[int(entry["Id"])] = EntryResult.RETRY
    return results


def _delivery(message: "MessageTypeDef", priority: Priority, url: str, now: int) -> Delivery | None:
    try:
        queued = ChunkQueued.model_validate_json(message["Body"])
    except ValidationError as error:
        # The queue's redrive policy moves it to the undeliverable queue.
        _LOG.error(
            "message %s names no chunk (%d faults); it is left in the queue",
            message["MessageId"],
            error.error_count(),
            extra={"queue": priority},
        )
        return None
    return Delivery(
        queued=queued,
        priority=priority,
        queue_url=url,
        receipt=message["ReceiptHandle"],
        message_id=message["MessageId"],
        queued_at=int(message.get("Attributes", {}).get("SentTimestamp", 0)),
        received_at=now,
    )
