"""Says of chunks that they have finished, where nobody else has: the same events that agents send."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from htcgrid_controlplane.outbound.sqs import (
    drained,
    send_all,
)
from htcgrid_events import ChunkFinished

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient


class TaskEvents:
    """The queue from which completions are counted."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def send(self, events: Sequence[ChunkFinished]) -> None:
        """Send events of distinct chunks of one session.

        Raises:
            StorageUnavailable: SQS kept refusing one.
        """
        send_all(
            self._client,
            self._url,
            [{"Id": str(event.outcome.chunk), "MessageBody": event.model_dump_json()} for event in events],
        )

    def drained(self) -> bool:
        """Whether no event waits to be counted."""
        return drained(self._client, self._url)
