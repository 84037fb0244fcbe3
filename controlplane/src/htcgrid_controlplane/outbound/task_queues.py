"""Makes chunks visible to agents: one message a chunk, on the queue of its partition and priority."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid_controlplane.outbound.sqs import MessageSender
from htcgrid_controlplane.rules.scaling import Messages
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_events import ChunkQueued, RetryPolicy

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_AT_ONCE = timedelta(0)
_NO_DELAYS: Mapping[int, timedelta] = {}


class TaskQueues:
    """The task queues of all partitions."""

    def __init__(self, sender: MessageSender, partitions: KnownPartitions) -> None:
        self._sender = sender
        self._partitions = partitions

    def send(self, session: Session, chunks: Sequence[int], delays: Mapping[int, timedelta] = _NO_DELAYS) -> None:
        """Send one message per chunk. The tenant is the message group, so that SQS deals fairly among tenants.

        `delays` says for how long a chunk's message is to be hidden at first; at most 15 minutes.

        Raises:
            StorageUnavailable: SQS kept refusing a message.
        """
        self._sender.send(self._url(session), [_entry(session, chunk, delays.get(chunk, _AT_ONCE)) for chunk in chunks])

    def drained(self, session: Session) -> bool:
        """Whether nothing waits in the queue of a session's chunks."""
        return self._sender.drained(self._url(session))

    def messages(self, partition: str) -> Messages:
        """How many messages the queues of a partition hold, all priorities together."""
        return sum(map(self._sender.messages, self._partitions.find(partition).queue_urls.values()), Messages())

    def _url(self, session: Session) -> str:
        return self._partitions.find(session.options.partition).queue_urls[session.options.priority]


def _entry(session: Session, chunk: int, delay: timedelta) -> "SendMessageBatchRequestEntryTypeDef":
    options = session.options
    message = ChunkQueued(
        session_id=session.session_id,
        chunk=chunk,
        tenant=session.tenant,
        task_timeout_seconds=options.task_timeout_seconds,
        **options.model_dump(include=set(RetryPolicy.model_fields)),
    )
    # What is as usual goes without saying: SQS charges by size.
    body = message.to_json(exclude_defaults=True)
    entry: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(chunk),
        "MessageBody": body,
        "MessageGroupId": session.tenant,
    }
    if delay:
        entry["DelaySeconds"] = math.ceil(delay.total_seconds())
    return entry
