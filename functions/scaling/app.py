"""Publishes once a minute how many agents each partition wants."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_controlplane.errors import ScalingFailed
from htcgrid_controlplane.observability import control_plane, logger, observed

grid = control_plane()


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Publish what all partitions want.

    Raises:
        ScalingFailed: some could not be told of; all others were.
    """
    failed = []
    for partition in grid.scaling.names:
        try:
            wanted = grid.scaling.publish(partition)
        except Exception:  # noqa: BLE001 - whatever is wrong with one partition, the others go on
            logger.exception("a partition could not be told of", partition=partition)
            failed.append(partition)
        else:
            logger.debug("agents wanted", partition=partition, agents=wanted.agents, chunks=wanted.messages.total)
    if failed:
        raise ScalingFailed(failed)
