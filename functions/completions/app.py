"""Counts and announces the task events of agents, a batch at a time."""

from collections import defaultdict
from typing import Annotated, Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import Field, TypeAdapter

from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_events import ChunkFinished, ChunkOutcome, TasksRetrying

logger = Logger()
tracer = Tracer()
metrics = Metrics()
grid = ControlPlane(Settings.from_environment())

_EVENT: TypeAdapter[ChunkFinished | TasksRetrying] = TypeAdapter(
    # In this order, since nearly all are of the first kind.
    Annotated[ChunkFinished | TasksRetrying, Field(union_mode="left_to_right")]
)


class SessionBatches(BatchProcessor):
    """Takes the events of a batch together by session, since a write then counts many of them.

    A record fails with its session: only the events of that session come again.
    """

    def _prepare(self) -> None:
        super()._prepare()  # type: ignore[no-untyped-call]
        self._failures: dict[str, Exception] = {}
        self._session_of: dict[str, str] = {}
        outcomes: defaultdict[str, list[ChunkOutcome]] = defaultdict(list)
        retries: defaultdict[str, list[TasksRetrying]] = defaultdict(list)
        for record in self.records:
            body = SQSRecord(record).body
            try:
                event = _EVENT.validate_json(body)
            except ValueError as error:
                self._failures[body] = error
                continue
            self._session_of[body] = event.session_id
            if isinstance(event, ChunkFinished):
                outcomes[event.session_id].append(event.outcome)
            else:
                retries[event.session_id].append(event)
        for session_id in outcomes.keys() | retries.keys():
            try:
                _deal_with(session_id, outcomes[session_id], retries[session_id])
            except Exception as error:
                logger.exception("events of a session failed", session_id=session_id)
                self._failures[session_id] = error

    def failure_of(self, record: SQSRecord) -> Exception | None:
        """Why this record is to come again, if it is."""
        return self._failures.get(self._session_of.get(record.body, record.body))


def _deal_with(session_id: str, outcomes: list[ChunkOutcome], retries: list[TasksRetrying]) -> None:
    if outcomes:
        grid.completions.record(session_id, outcomes)
        metrics.add_metric("ChunksFinished", MetricUnit.Count, len(outcomes))
        metrics.add_metric("TasksFinished", MetricUnit.Count, sum(outcome.size for outcome in outcomes))
    if retries:
        grid.bus.put([("Tasks Retrying", event) for event in retries])
        metrics.add_metric("TasksRetried", MetricUnit.Count, sum(event.failed for event in retries))


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
