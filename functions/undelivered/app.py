"""Takes messages out of the dead letter queue of the task queues, and sees to their chunks."""

from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_events import ChunkQueued, LeaseAction

METRICS = {
    LeaseAction.SENT_AGAIN: "ChunksSentAgain",
    LeaseAction.GIVEN_UP: "ChunksGivenUp",
    LeaseAction.COUNTED: "ChunksCounted",
}

logger = Logger()
tracer = Tracer()
metrics = Metrics()
grid = ControlPlane(Settings.from_environment())
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def see_to(record: SQSRecord) -> None:
    """See to the chunk of one message; one that fails stays in the queue and comes again."""
    try:
        queued = ChunkQueued.model_validate_json(record.body)
        action = grid.undelivered.see_to(queued)
    except Exception:
        metrics.add_metric("MessagesNotSeenTo", MetricUnit.Count, 1)
        logger.exception("a message could not be seen to", message_id=record.message_id)
        raise
    logger.warning("message taken", session_id=queued.session_id, chunk=queued.chunk, action=action or "none needed")
    if action:
        metrics.add_metric(METRICS[action], MetricUnit.Count, 1)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process one batch of messages."""
    return process_partial_response(event=event, record_handler=see_to, processor=processor, context=context)
