"""Sends the events of chunks, and then deletes or hides their messages. Everything in batches."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

from htcgrid_agent.aws.entries import EntryResult
from htcgrid_agent.aws.sqs import MAX_BATCH, TaskEvents, TaskMessages
from htcgrid_agent.protocol.batcher import Batcher
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_agent.work.job import Delivery
from htcgrid_chunks.chunk import Chunk
from htcgrid_events import ChunkFinished, TasksRetrying, WorkDone

_LOG = logging.getLogger(__name__)
_LINGER = timedelta(milliseconds=10)
_DELETION_LINGER = timedelta(milliseconds=100)
"""Nothing waits for a deletion."""


class _Event(NamedTuple):
    delivery: Delivery | None
    """The message to delete once the event is accepted; none if it is still needed."""
    body: str
    ids: dict[str, object]


class Outbox:
    """Deletes the message of a chunk only after the event of the chunk has been accepted.

    The message of an event that is refused for good stays: it comes back, and after some attempts the control plane
    deals with it as undeliverable.
    """

    def __init__(
        self, messages: TaskMessages, events: TaskEvents, expects_more: Callable[[], bool], metrics: Metrics
    ) -> None:
        self._task_events = events
        self._events = Batcher(
            "events",
            self._send,
            refused=_log_refused_event,
            max_items=MAX_BATCH,
            linger=_LINGER,
            expects_more=expects_more,
            metrics=metrics,
        )
        self._deletions = Batcher(
            "deletions",
            messages.delete,
            refused=_log_refused_delivery,
            max_items=MAX_BATCH,
            linger=_DELETION_LINGER,
            metrics=metrics,
        )
        self._hidings = Batcher(
            "hidings",
            messages.hide,
            refused=lambda wait: _log_refused_delivery(wait[0]),
            max_items=MAX_BATCH,
            linger=_LINGER,
            metrics=metrics,
        )

    def start(self) -> None:
        """Begin to send."""
        for stage in (self._events, self._deletions, self._hidings):
            stage.start()

    def flush(self, within: timedelta) -> bool:
        """Send everything now; false if that took longer than `within` for one of the stages."""
        # The events first, since they add deletions.
        return all(stage.flush(within) for stage in (self._events, self._deletions, self._hidings))

    def close(self) -> None:
        """Stop sending."""
        for stage in (self._events, self._deletions, self._hidings):
            stage.close()

    def finished(self, chunks: Sequence[tuple[Delivery, Chunk, WorkDone]]) -> None:
        """Send the events of finished chunks, for the first time or again, and then delete their messages."""
        self._events.put_all(
            [_Event(delivery, _finished(chunk, work), delivery.ids) for delivery, chunk, work in chunks]
        )

    def retrying(self, events: Sequence[TasksRetrying]) -> None:
        """Send events of tasks that failed and will be retried. They may be lost with the agent: nothing depends on
        them."""
        self._events.put_all(
            [
                _Event(None, TaskEvents.body(event), {"session": event.session_id, "chunk": event.chunk})
                for event in events
            ]
        )

    def delete(self, delivery: Delivery) -> None:
        """Delete a message."""
        self._deletions.put(delivery)

    def hide(self, waits: Sequence[tuple[Delivery, int]]) -> None:
        """Show each message again after so many seconds."""
        self._hidings.put_all(waits)

    def _send(self, events: Sequence[_Event]) -> list[EntryResult]:
        results = self._task_events.send([event.body for event in events])
        self._deletions.put_all(
            [
                event.delivery
                for event, result in zip(events, results, strict=True)
                if event.delivery and result is EntryResult.ACCEPTED
            ]
        )
        return results


def _finished(chunk: Chunk, work: WorkDone) -> str:
    return TaskEvents.body(ChunkFinished(session_id=chunk.key.session_id, outcome=chunk.outcome(), work=work))


def _log_refused_event(event: _Event) -> None:
    _LOG.error("an event is refused for good: it is dropped", extra=event.ids)


def _log_refused_delivery(delivery: Delivery) -> None:
    _LOG.error("a change of a message is refused for good: it is dropped", extra=delivery.ids)
