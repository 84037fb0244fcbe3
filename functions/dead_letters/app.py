"""The step of the dead letters workflow that keeps what failed for good. The workflow announces it."""

from typing import Annotated, Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field

from htcgrid_controlplane.observability import control_plane, count, logger, observed
from htcgrid_events import SessionId

grid = control_plane()


class Record(BaseModel):
    """Keep the failed tasks of a chunk."""

    session_id: SessionId
    chunk: Annotated[int, Field(ge=0)]


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record the dead letters of one chunk, and give what is to be announced: nothing if there are none."""
    step = Record.model_validate(event)
    logger.append_keys(session_id=step.session_id, chunk=step.chunk)
    letters = grid.dead_letters.record(step.session_id, step.chunk)
    if letters is None:
        logger.info("nothing to record")
        return {"detail": None}
    count("TasksDeadLettered", letters.failed)
    logger.info("dead letters recorded", tasks=letters.failed)
    return {"detail": letters.model_dump(mode="json")}
