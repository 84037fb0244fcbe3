"""The steps of the workflow for expired leases and lost messages. The workflow decides; this function does."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field, TypeAdapter

from htcgrid_controlplane.observability import control_plane, count, observed
from htcgrid_controlplane.storage.lease_index import Entry
from htcgrid_controlplane.storage.sweep_index import Due
from htcgrid_events import LeaseAction

METRICS = {
    LeaseAction.REQUEUED: "ChunksRequeued",
    LeaseAction.GIVEN_UP: "ChunksGivenUp",
    LeaseAction.SENT_AGAIN: "ChunksSentAgain",
    LeaseAction.COUNTED: "ChunksCounted",
}

grid = control_plane()


class Recover(BaseModel):
    """Recover a page of the chunks of a shard whose leases ended at `before` (ms) or earlier."""

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


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one step, and say how much could not be dealt with and where the next page begins, if anywhere."""
    match _STEP.validate_python(event):
        case Recover() as step:
            after = _ENTRY.validate_json(step.after) if step.after else None
            recovered = grid.recovery.recover_expired(step.shard, step.before, after)
            _count(recovered.actions, recovered.failures)
            return {
                "failures": recovered.failures,
                "after": _ENTRY.dump_json(recovered.after).decode() if recovered.after else "",
            }
        case Sweep() as step:
            last = _DUE.validate_json(step.after) if step.after else None
            swept = grid.sweeping.sweep(step.shard, step.before, last)
            _count(swept.actions, swept.failures)
            count("LifecyclesRestarted", swept.restarted)
            return {
                "failures": swept.failures,
                "after": _DUE.dump_json(swept.after).decode() if swept.after else "",
            }


def _count(actions: Mapping[LeaseAction, int], failures: int) -> None:
    for action, chunks in actions.items():
        count(METRICS[action], chunks)
    count("RecoveriesFailed", failures)
