"""Makes chunks visible to agents: one message a chunk, on the queue of its partition and priority."""

import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid_controlplane.backoff import Backoff
from htcgrid_controlplane.errors import StorageUnavailable, UnknownPartition
from htcgrid_controlplane.sessions import Session
from htcgrid_events import ChunkQueued, Priority, RetryPolicy

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_MAX_ENTRIES = 10
"""Most messages in one SendMessageBatch (Amazon SQS API Reference)."""
_BACKOFF = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=1))
_TRIES = 6


class TaskQueues:
    """The task queues of all partitions."""

    def __init__(self, client: "SQSClient", urls: Mapping[str, Mapping[Priority, str]]) -> None:
        self._client = client
        self._urls = urls

    def check(self, partition: str) -> None:
        """Make sure that there is such a partition.

        Raises:
            UnknownPartition: there is none.
        """
        if partition not in self._urls:
            raise UnknownPartition(
                f"There is no partition {partition!r} in this grid; there is {', '.join(sorted(self._urls))}."
            )

    def send(self, session: Session, chunks: Sequence[int]) -> None:
        """Send one message per chunk. The tenant is the message group, so that SQS deals fairly among tenants.

        Raises:
            StorageUnavailable: SQS kept refusing a message.
        """
        url = self._urls[session.options.partition][session.options.priority]
        for start in range(0, len(chunks), _MAX_ENTRIES):
            self._send_some(url, [_entry(session, chunk) for chunk in chunks[start : start + _MAX_ENTRIES]])

    def _send_some(self, url: str, entries: "list[SendMessageBatchRequestEntryTypeDef]") -> None:
        for retry in range(1, _TRIES + 1):
            failed = self._client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed", [])
            if not failed:
                return
            refused = {entry["Id"] for entry in failed}
            entries = [entry for entry in entries if entry["Id"] in refused]
            time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
        raise StorageUnavailable(f"SQS kept refusing {len(entries)} messages, the first with {failed[0].get('Code')}")


def _entry(session: Session, chunk: int) -> "SendMessageBatchRequestEntryTypeDef":
    options = session.options
    message = ChunkQueued(
        session_id=session.session_id,
        chunk=chunk,
        tenant=session.tenant,
        task_timeout_seconds=options.task_timeout_seconds,
        **options.model_dump(include=set(RetryPolicy.model_fields)),
    )
    # What is as usual goes without saying: SQS charges by size.
    body = message.model_dump_json(exclude_defaults=True)
    return {"Id": str(chunk), "MessageBody": body, "MessageGroupId": session.tenant}
