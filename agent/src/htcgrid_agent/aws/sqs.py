"""SQS as an agent uses it: receiving, deleting and hiding messages, and sending events. Always in batches."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError

from htcgrid_agent.work.job import Delivery
from htcgrid_chunks.clock import Clock
from htcgrid_events import ChunkQueued, Priority

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_LOG = logging.getLogger(__name__)
MAX_BATCH = 10
"""Most messages in one request (Amazon SQS API Reference)."""
MAX_WAIT_SECONDS = 20
"""Longest long poll (Amazon SQS API Reference)."""
MAX_VISIBILITY_SECONDS = 43_200
"""Longest time that a message can be hidden (Amazon SQS API Reference)."""
_HIDDEN_SECONDS = 15
"""A long poll cannot be called back. What it takes after its agent has ended is lost to all for so long, so this is
shorter than a lease."""
_GONE = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"})
"""What SQS says of a message that was deleted, or that it has shown to somebody else meanwhile."""


class TaskMessages:
    """The partition's queues, one per priority."""

    def __init__(self, client: "SQSClient", urls: Mapping[Priority, str], lease_seconds: int, clock: Clock) -> None:
        self._client = client
        self._urls = urls
        self.hidden_for = timedelta(seconds=min(lease_seconds, _HIDDEN_SECONDS))
        """For how long a message is hidden when it is received. Whoever keeps it hides it for longer."""
        self._clock = clock

    @property
    def priorities(self) -> list[Priority]:
        """Those that have a queue."""
        return list(self._urls)

    def receive(self, priority: Priority, most: int) -> list[Delivery]:
        """Wait up to 20 s for messages and take up to `most`, hidden from others for `hidden_for`."""
        url = self._urls[priority]
        response = self._client.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(most, MAX_BATCH),
            WaitTimeSeconds=MAX_WAIT_SECONDS,
            VisibilityTimeout=int(self.hidden_for.total_seconds()),
            AttributeNames=["SentTimestamp"],
        )
        now = self._clock()
        deliveries = (_delivery(message, priority, url, now) for message in response.get("Messages", []))
        return [delivery for delivery in deliveries if delivery]

    def delete(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Delete messages; gives those that SQS would not delete now but may later."""
        return [delivery for url, some in _by_queue(deliveries) for delivery in self._delete_some(url, some)]

    def hide(self, waits: Sequence[tuple[Delivery, int]]) -> list[tuple[Delivery, int]]:
        """Show each message again after so many seconds; gives those that SQS would not change but may later."""
        seconds = {id(delivery): wait for delivery, wait in waits}
        return [
            (delivery, seconds[id(delivery)])
            for url, some in _by_queue(delivery for delivery, _ in waits)
            for delivery in self._hide_some(url, some, seconds)
        ]

    def _delete_some(self, url: str, some: Sequence[Delivery]) -> list[Delivery]:
        response = self._client.delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(index), "ReceiptHandle": delivery.receipt} for index, delivery in enumerate(some)],
        )
        return [some[index] for index in _worth_repeating(response.get("Failed", []))]

    def _hide_some(self, url: str, some: Sequence[Delivery], seconds: Mapping[int, int]) -> list[Delivery]:
        response = self._client.change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {
                    "Id": str(index),
                    "ReceiptHandle": delivery.receipt,
                    "VisibilityTimeout": max(0, min(seconds[id(delivery)], MAX_VISIBILITY_SECONDS)),
                }
                for index, delivery in enumerate(some)
            ],
        )
        return [some[index] for index in _worth_repeating(response.get("Failed", []))]


class TaskEvents:
    """The queue that takes events of finished chunks."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def send(self, bodies: Sequence[str]) -> set[int]:
        """Send up to 10 events; gives the positions of those that were not accepted."""
        response = self._client.send_message_batch(
            QueueUrl=self._url,
            Entries=[{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)],
        )
        failed = response.get("Failed", [])
        if failed:
            _LOG.warning("SQS refused %d events, the first with %s", len(failed), failed[0].get("Code"))
        return {int(entry["Id"]) for entry in failed}


def _by_queue(deliveries: Iterable[Delivery]) -> Iterator[tuple[str, list[Delivery]]]:
    by_url: defaultdict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        by_url[delivery.queue_url].append(delivery)
    for url, some in by_url.items():
        for start in range(0, len(some), MAX_BATCH):
            yield url, some[start : start + MAX_BATCH]


def _worth_repeating(failed: Iterable[Mapping[str, object]]) -> list[int]:
    repeat = []
    for entry in failed:
        if entry.get("Code") in _GONE:
            _LOG.info("a message is no longer ours: %s", entry.get("Code"))
        else:
            _LOG.warning("SQS refused a change of a message with %s", entry.get("Code"))
            repeat.append(int(str(entry["Id"])))
    return repeat


def _delivery(message: "MessageTypeDef", priority: Priority, url: str, now: int) -> Delivery | None:
    try:
        queued = ChunkQueued.model_validate_json(message["Body"])
    except ValidationError as error:
        # Left to the queue's redrive policy, which keeps it for a look.
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
