"""The step of the dead letters workflow that keeps what failed for good. The workflow announces it."""

from typing import Annotated, Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field

from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_events import SessionId

logger = Logger()
tracer = Tracer()
metrics = Metrics()
grid = ControlPlane(Settings.from_environment())


class Record(BaseModel):
    """Keep the failed tasks of a chunk."""

    session_id: SessionId
    chunk: Annotated[int, Field(ge=0)]


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record the dead letters of one chunk, and give what is to be announced: nothing if there are none."""
    step = Record.model_validate(event)
    logger.append_keys(session_id=step.session_id, chunk=step.chunk)
    letters = grid.dead_letters.record(step.session_id, step.chunk)
    if letters is None:
        logger.info("nothing to record")
        return {"detail": None}
    metrics.add_metric("TasksDeadLettered", MetricUnit.Count, letters.failed)
    logger.info("dead letters recorded", tasks=letters.failed)
    return {"detail": letters.model_dump(mode="json")}
