"""Counts and announces the task events of agents, a batch at a time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import Field, TypeAdapter, ValidationError

from htcgrid_controlplane.observability import control_plane, count, logger, observed
from htcgrid_events import ChunkFinished, TasksRetrying

grid = control_plane()

_EVENT: TypeAdapter[ChunkFinished | TasksRetrying] = TypeAdapter(
    # In this order, since nearly all are of the first kind.
    Annotated[ChunkFinished | TasksRetrying, Field(union_mode="left_to_right")]
)
_Received = tuple[str, ChunkFinished | TasksRetrying]
"""The id of a message and its event."""


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, list[dict[str, str]]]:
    """Process one batch of task events, and say which messages are to come again."""
    failures = [{"itemIdentifier": message_id} for message_id in _process(SQSEvent(event))]
    grid.measurements.write()
    return {"batchItemFailures": failures}


def _process(batch: SQSEvent) -> Iterator[str]:
    """Process the events of a batch by session, since one write then counts many of them. Yields the ids of messages
    that are to come again: a message fails with its session, and costs no other session anything."""
    by_session: defaultdict[str, list[_Received]] = defaultdict(list)
    for record in batch.records:
        try:
            received = _EVENT.validate_json(record.body)
        except ValidationError as error:
            reasons = [fault["msg"] for fault in error.errors(include_input=False)]  # without the text itself
            logger.error("a task event cannot be read", message_id=record.message_id, reasons=reasons)
            yield record.message_id
        else:
            by_session[received.session_id].append((record.message_id, received))
    for session_id, messages in by_session.items():
        try:
            _process_session(session_id, [received for _, received in messages])
        except Exception:  # noqa: BLE001 - whatever is wrong with one session, the others go on
            logger.exception("events of a session failed", session_id=session_id)
            yield from (message_id for message_id, _ in messages)


def _process_session(session_id: str, events: Iterable[ChunkFinished | TasksRetrying]) -> None:
    finished = [event for event in events if isinstance(event, ChunkFinished)]
    retries = [event for event in events if isinstance(event, TasksRetrying)]
    if finished:
        outcomes, done = [event.outcome for event in finished], [event.work for event in finished]
        told = grid.completions.record(session_id, outcomes, done)
        count("ChunksFinished", len(told))
        count("TasksFinished", sum(outcome.size for outcome in told))
    if retries:
        grid.completions.announce_retries(session_id, retries)
        count("TasksRetried", sum(event.failed for event in retries))
