"""Tells the control plane of finished chunks, and ends or hides their messages. Everything in batches."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

from htcgrid_agent.aws.sqs import (
    MAX_BATCH,
    TaskEvents,
    TaskMessages,
)
from htcgrid_agent.protocol.batcher import Batcher
from htcgrid_agent.telemetry.metrics import Histogram
from htcgrid_agent.work.job import Delivery
from htcgrid_chunks.chunk import Chunk
from htcgrid_events import ChunkFinished, TasksRetrying

_COMPANY = timedelta(milliseconds=10)
_UNHURRIED = timedelta(milliseconds=100)
"""How long a deletion waits for company: nobody waits for it."""


class _Event(NamedTuple):
    delivery: Delivery | None
    """The message to be deleted once the event is accepted; none if it is still needed."""
    body: str


class Outbox:
    """A message is only deleted once the event of its chunk has been accepted."""

    def __init__(self, queues: TaskMessages, events: TaskEvents, company: Callable[[], bool], sizes: Histogram) -> None:
        self._queue = events
        self._events = Batcher("events", self._send, most=MAX_BATCH, linger=_COMPANY, company=company, sizes=sizes)
        self._deletions = Batcher("deletions", queues.delete, most=MAX_BATCH, linger=_UNHURRIED, sizes=sizes)
        self._hidings = Batcher("hidings", queues.hide, most=MAX_BATCH, linger=_COMPANY, sizes=sizes)

    def start(self) -> None:
        """Begin to send."""
        for stage in (self._events, self._deletions, self._hidings):
            stage.start()

    def flush(self, within: timedelta) -> bool:
        """Send everything now; false if that took too long."""
        # In the order in which one fills the next.
        return all(stage.flush(within) for stage in (self._events, self._deletions, self._hidings))

    def close(self) -> None:
        """Stop sending."""
        for stage in (self._events, self._deletions, self._hidings):
            stage.close()

    def finished(self, chunks: Sequence[tuple[Delivery, Chunk]]) -> None:
        """Send the events of finished chunks, for the first time or once more, and then delete their messages."""
        self._events.put_all([_Event(delivery, _event(chunk)) for delivery, chunk in chunks])

    def retrying(self, events: Sequence[TasksRetrying]) -> None:
        """Tell of tasks that failed and are run again. Nobody depends on it: it may be lost with the agent."""
        self._events.put_all([_Event(None, event.model_dump_json()) for event in events])

    def delete(self, delivery: Delivery) -> None:
        """Delete a message."""
        self._deletions.put_all([delivery])

    def hide(self, waits: Sequence[tuple[Delivery, int]]) -> None:
        """Show each message again after so many seconds."""
        self._hidings.put_all(waits)

    def _send(self, events: Sequence[_Event]) -> list[_Event]:
        refused = self._queue.send([event.body for event in events])
        accepted = [event for index, event in enumerate(events) if index not in refused]
        self._deletions.put_all([event.delivery for event in accepted if event.delivery])
        return [events[index] for index in sorted(refused)]


def _event(chunk: Chunk) -> str:
    return ChunkFinished(session_id=chunk.key.session_id, outcome=chunk.outcome()).model_dump_json()
