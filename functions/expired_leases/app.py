"""The steps of the workflow for expired leases and lost messages. The workflow decides; this function does."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.logging import utils
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field, TypeAdapter

from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.storage.lease_index import Entry
from htcgrid_controlplane.storage.sweep_index import Due
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_events import LeaseAction

METRICS = {
    LeaseAction.REQUEUED: "ChunksRequeued",
    LeaseAction.GIVEN_UP: "ChunksGivenUp",
    LeaseAction.SENT_AGAIN: "ChunksSentAgain",
    LeaseAction.COUNTED: "ChunksCounted",
}

logger = Logger()
# What went wrong with a chunk is logged where it is caught, and is to be found by its session.
utils.copy_config_to_registered_loggers(logger, include={"htcgrid_controlplane"})
tracer = Tracer()
metrics = Metrics()
grid = ControlPlane(Settings.from_environment())


class Recover(BaseModel):
    """See to a page of the chunks of a shard whose leases ended at `before` (ms) or earlier."""

    step: Literal["recover"]
    shard: int
    before: int
    after: str = ""
    """Where the page begins, as the former step said."""


class Sweep(BaseModel):
    """Sweep a page of the open sessions of a shard that were to be swept at `before` (ms) or earlier."""

    step: Literal["sweep"]
    shard: int
    before: int
    after: str = ""
    """Where the page begins, as the former step said."""


_STEP: TypeAdapter[Recover | Sweep] = TypeAdapter(Annotated[Recover | Sweep, Field(discriminator="step")])
_ENTRY = TypeAdapter(Entry)
_DUE = TypeAdapter(Due)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one step, and say how much could not be dealt with and where the next page begins, if anywhere."""
    match _STEP.validate_python(event):
        case Recover() as step:
            after = _ENTRY.validate_json(step.after) if step.after else None
            recovered = grid.recovery.recover_expired(step.shard, step.before, after)
            count(recovered.actions, recovered.failures)
            return {
                "failures": recovered.failures,
                "after": _ENTRY.dump_json(recovered.after).decode() if recovered.after else "",
            }
        case Sweep() as step:
            last = _DUE.validate_json(step.after) if step.after else None
            swept = grid.sweeping.sweep(step.shard, step.before, last)
            count(swept.actions, swept.failures)
            if swept.restarted:
                metrics.add_metric("LifecyclesRestarted", MetricUnit.Count, swept.restarted)
            return {
                "failures": swept.failures,
                "after": _DUE.dump_json(swept.after).decode() if swept.after else "",
            }


def count(actions: Mapping[LeaseAction, int], failures: int) -> None:
    """Publish what was done."""
    for action, chunks in actions.items():
        if chunks:
            metrics.add_metric(METRICS[action], MetricUnit.Count, chunks)
    if failures:
        metrics.add_metric("RecoveriesFailed", MetricUnit.Count, failures)
