"""Sends the task events of chunks whose agents are gone. They are the same events that agents send."""

from collections.abc import Sequence

from htcgrid_controlplane.outbound.sqs import MessageSender
from htcgrid_events import ChunkFinished


class TaskEvents:
    """The queue from which completions are counted."""

    def __init__(self, sender: MessageSender, url: str) -> None:
        self._sender = sender
        self._url = url

    def send(self, events: Sequence[ChunkFinished]) -> None:
        """Send events of distinct chunks of one session.

        Raises:
            StorageUnavailable: SQS kept refusing one.
        """
        self._sender.send(
            self._url, [{"Id": str(event.outcome.chunk), "MessageBody": event.to_json()} for event in events]
        )

    def drained(self) -> bool:
        """Whether no event waits to be counted."""
        return self._sender.drained(self._url)
