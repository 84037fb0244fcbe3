"""Counts and announces the task events of agents, a batch at a time."""

from collections import defaultdict
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_events import ChunkFinished, ChunkOutcome

logger = Logger()
tracer = Tracer()
metrics = Metrics()
grid = ControlPlane(Settings.from_environment())


class SessionBatches(BatchProcessor):
    """Takes the events of a batch together by session, since a write then counts many of them.

    A record fails with its session: only the events of that session come again.
    """

    def _prepare(self) -> None:
        super()._prepare()  # type: ignore[no-untyped-call]
        self._failures: dict[str, Exception] = {}
        by_session: defaultdict[str, list[ChunkOutcome]] = defaultdict(list)
        for record in self.records:
            body = SQSRecord(record).body
            try:
                event = ChunkFinished.model_validate_json(body)
            except ValueError as error:
                self._failures[body] = error
            else:
                by_session[event.session_id].append(event.outcome)
        for session_id, outcomes in by_session.items():
            try:
                grid.completions.record(session_id, outcomes)
            except Exception as error:
                logger.exception("events of a session failed", session_id=session_id, chunks=len(outcomes))
                self._failures[session_id] = error
            else:
                metrics.add_metric("ChunksFinished", MetricUnit.Count, len(outcomes))
                metrics.add_metric("TasksFinished", MetricUnit.Count, sum(outcome.size for outcome in outcomes))

    def failure_of(self, record: SQSRecord) -> Exception | None:
        """Why this record is to come again, if it is."""
        unreadable = self._failures.get(record.body)
        return unreadable or self._failures.get(ChunkFinished.model_validate_json(record.body).session_id)


processor = SessionBatches(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def settle(record: SQSRecord) -> None:
    """Report what became of one record."""
    if failure := processor.failure_of(record):
        raise failure


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process one batch of task events."""
    return process_partial_response(event=event, record_handler=settle, processor=processor, context=context)
