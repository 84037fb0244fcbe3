"""Handles the messages in the undeliverable queue, a batch at a time."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_controlplane.observability import control_plane, count, logger, observed
from htcgrid_events import ChunkQueued, LeaseAction

METRICS = {
    LeaseAction.SENT_AGAIN: "ChunksSentAgain",
    LeaseAction.GIVEN_UP: "ChunksGivenUp",
    LeaseAction.COUNTED: "ChunksCounted",
}

grid = control_plane()
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def handle_message(record: SQSRecord) -> None:
    """Handle one message; one that fails stays in the queue and comes again."""
    try:
        queued = ChunkQueued.model_validate_json(record.body)
        action = grid.undeliverable.handle(queued)
    except Exception:
        count("UndeliverableMessages", 1)
        logger.exception("a message could not be handled", message_id=record.message_id)
        raise
    logger.warning("message taken", session_id=queued.session_id, chunk=queued.chunk, action=action or "none needed")
    if action:
        count(METRICS[action], 1)


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process one batch of messages."""
    return process_partial_response(event=event, record_handler=handle_message, processor=processor, context=context)
