"""Sends messages in batches, and asks whether they are waited for."""

import random
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_MAX_ENTRIES = 10
"""Most messages in one SendMessageBatch (Amazon SQS API Reference)."""
_BACKOFF = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=1))
_TRIES = 6


def send_all(client: "SQSClient", url: str, entries: "Sequence[SendMessageBatchRequestEntryTypeDef]") -> None:
    """Send messages, whose ids are distinct.

    Raises:
        StorageUnavailable: SQS kept refusing a message.
    """
    for start in range(0, len(entries), _MAX_ENTRIES):
        _send_some(client, url, entries[start : start + _MAX_ENTRIES])


def _send_some(client: "SQSClient", url: str, entries: "Sequence[SendMessageBatchRequestEntryTypeDef]") -> None:
    for retry in range(1, _TRIES + 1):
        failed = client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed", [])
        if not failed:
            return
        refused = {entry["Id"] for entry in failed}
        entries = [entry for entry in entries if entry["Id"] in refused]
        time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
    raise StorageUnavailable(f"SQS kept refusing {len(entries)} messages, the first with {failed[0].get('Code')}")


def drained(client: "SQSClient", url: str) -> bool:
    """Whether a queue holds no message that waits to be received, as far as SQS knows: it takes up to a minute."""
    response = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return response["Attributes"]["ApproximateNumberOfMessages"] == "0"
