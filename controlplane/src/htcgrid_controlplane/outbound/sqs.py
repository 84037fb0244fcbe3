"""Sends messages in batches, and asks how many a queue holds."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.outbound.batches import batches
from htcgrid_controlplane.outbound.metrics import CountMetric, count_nothing
from htcgrid_controlplane.rules.scaling import Messages

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef, SendMessageBatchRequestEntryTypeDef

_LOG = logging.getLogger(__name__)
_MAX_ENTRIES = 10
"""Most messages in one SendMessageBatch (Amazon SQS API Reference)."""
_MAX_BYTES = 1024 * 1024
"""Most bytes of all messages in one SendMessageBatch ("Amazon SQS message quotas")."""
_MAY_PASS = ("AccessDenied", "Kms", "KMS", "OverLimit", "RequestThrottled", "Throttling")
"""Beginnings of error codes that count as the sender's fault and say nothing of the message itself: somebody may mend a
permission, or less may be sent."""
_BACKOFF = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=1))
_TRIES = 6


class MessageSender:
    """Sends messages to queues."""

    def __init__(
        self, client: "SQSClient", count: CountMetric = count_nothing, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._count = count
        self._sleep = sleep

    def send(self, url: str, entries: "Sequence[SendMessageBatchRequestEntryTypeDef]") -> None:
        """Send messages, whose ids are distinct. One that is refused for good is logged, counted and left out.

        Raises:
            StorageUnavailable: SQS kept refusing a message for another reason, after all others were sent.
        """
        kept_failing: list[str] = []
        for batch in batches(entries, _size, _MAX_ENTRIES, _MAX_BYTES):
            kept_failing += self._send_some(url, batch)
        if kept_failing:
            raise StorageUnavailable(f"SQS kept refusing {len(kept_failing)} messages: {sorted(set(kept_failing))}")

    def drained(self, url: str) -> bool:
        """Whether a queue holds no message that waits to be received, as far as SQS knows: it takes up to a minute."""
        response = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return response["Attributes"]["ApproximateNumberOfMessages"] == "0"

    def messages(self, url: str) -> Messages:
        """How many messages a queue holds, as far as SQS knows: it takes up to a minute. Those that are delayed are not
        counted: nobody can receive them yet."""
        response = self._client.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        )
        counts = response["Attributes"]
        return Messages(
            waiting=int(counts["ApproximateNumberOfMessages"]),
            in_flight=int(counts["ApproximateNumberOfMessagesNotVisible"]),
        )

    def _send_some(self, url: str, entries: "list[SendMessageBatchRequestEntryTypeDef]") -> list[str]:
        """Send messages, and again those that were refused. Returns the error codes of those that kept failing."""
        for retry in range(1, _TRIES + 1):
            failed = self._client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed", [])
            again = {failure["Id"]: failure["Code"] for failure in failed if not self._refused_for_good(url, failure)}
            if not again:
                return []
            entries = [entry for entry in entries if entry["Id"] in again]
            if retry < _TRIES:
                self._sleep(_BACKOFF.wait(retry, random.random).total_seconds())
        return list(again.values())

    def _refused_for_good(self, url: str, failure: "BatchResultErrorEntryTypeDef") -> bool:
        if not failure["SenderFault"] or failure["Code"].startswith(_MAY_PASS):
            return False
        self._count("MessagesRefused", 1)
        _LOG.error(
            "a message was refused for good", extra={"queue": url, "entry": failure["Id"], "code": failure["Code"]}
        )
        return True


def _size(entry: "SendMessageBatchRequestEntryTypeDef") -> int:
    return len(entry["MessageBody"])
