"""The steps of the workflows that end, pause and resume sessions. The workflows decide; this function does."""

from typing import Annotated, Any, Literal

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field, TypeAdapter

from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_events import SessionId

logger = Logger()
tracer = Tracer()
metrics = Metrics()
grid = ControlPlane(Settings.from_environment())


class Wait(BaseModel):
    """Keep the token; the workflow goes on when the session may end."""

    step: Literal["wait"]
    session_id: SessionId
    task_token: str


class Settle(BaseModel):
    """Cancel the open tasks of some buckets, and count what is not counted."""

    step: Literal["settle"]
    session_id: SessionId
    reason: EndReason
    first_bucket: Annotated[int, Field(ge=0)]


class Recount(BaseModel):
    """Count the accounts of some buckets anew."""

    step: Literal["recount"]
    session_id: SessionId
    first_bucket: Annotated[int, Field(ge=0)]


class Follow(BaseModel):
    """Hold or release the chunks of some buckets, as the session's row says."""

    step: Literal["follow"]
    session_id: SessionId
    first_bucket: Annotated[int, Field(ge=0)]


class End(BaseModel):
    """Write the verdict and the account."""

    step: Literal["end"]
    session_id: SessionId
    reason: EndReason


class Announce(BaseModel):
    """Tell everybody."""

    step: Literal["announce"]
    session_id: SessionId


_STEP: TypeAdapter[Wait | Settle | Recount | Follow | End | Announce] = TypeAdapter(
    Annotated[Wait | Settle | Recount | Follow | End | Announce, Field(discriminator="step")]
)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one step and give what the workflow needs of its result."""
    step = _STEP.validate_python(event)
    logger.append_keys(session_id=step.session_id)
    match step:
        case Wait():
            grid.lifecycle.wait(step.session_id, step.task_token)
            return {}
        case Settle():
            return {"next_bucket": grid.lifecycle.settle(step.session_id, step.reason, step.first_bucket)}
        case Recount():
            metrics.add_metric("AccountsRecounted", MetricUnit.Count, 1)
            return {"next_bucket": grid.recounts.recount(step.session_id, step.first_bucket)}
        case Follow():
            return {"next_bucket": grid.holds.follow(step.session_id, step.first_bucket)}
        case End():
            session = grid.lifecycle.end(step.session_id, step.reason)
            if session.state.ended:
                metrics.add_metric(f"Sessions{session.state.title().replace('_', '')}", MetricUnit.Count, 1)
                logger.info("session ended", state=session.state)
            return {"state": session.state}
        case Announce():
            grid.lifecycle.announce(step.session_id)
            return {}
