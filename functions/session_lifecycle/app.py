"""The steps of the workflows that end, pause and resume sessions. The workflows decide; this function does."""

from typing import Annotated, Any, Literal

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field, TypeAdapter

from htcgrid_controlplane.observability import control_plane, count, logger, observed
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_events import SessionId

grid = control_plane()


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
    """Pause or resume the chunks of some buckets, as the session's row says."""

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


@observed
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
            count("AccountsRecounted", 1)
            return {"next_bucket": grid.recounts.recount(step.session_id, step.first_bucket)}
        case Follow():
            return {"next_bucket": grid.pausing.follow(step.session_id, step.first_bucket)}
        case End():
            session = grid.lifecycle.end(step.session_id, step.reason)
            if session.state.ended:
                count(f"Sessions{session.state.title().replace('_', '')}", 1)
                logger.info("session ended", state=session.state)
            return {"state": session.state}
        case Announce():
            grid.lifecycle.announce(step.session_id)
            return {}
