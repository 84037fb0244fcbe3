"""Drains the node of an instance that is about to end, and lets its Auto Scaling group go on afterwards."""

import logging
from datetime import timedelta
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import utils
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_eks.node_drainer import ENDING, NodeDrainer, Settings, node_drainer

_TO_TELL = timedelta(seconds=20)
"""What is kept of the time of an invocation for requests that are under way and for what comes after the drain."""

logger = Logger()
metrics = Metrics()


@cache
def drainer() -> NodeDrainer:
    """The drainer of this process, as its environment describes it."""
    logging.getLogger("htcgrid_eks")
    utils.copy_config_to_registered_loggers(logger, include={"htcgrid_eks"})
    return node_drainer(Settings.from_environment())


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Deal with one event, and say what became of the pods."""
    ending = ENDING.validate_python(event)
    logger.append_keys(instance=ending.instance)
    report = drainer().handle(ending, timedelta(milliseconds=context.get_remaining_time_in_millis()) - _TO_TELL)
    if report is None:
        return {"node": None}
    metrics.add_metric("NodesDrained", MetricUnit.Count, report.done)
    metrics.add_metric("PodsEvicted", MetricUnit.Count, report.evicted)
    metrics.add_metric("PodsDeleted", MetricUnit.Count, report.deleted)
    metrics.add_metric("PodsLeft", MetricUnit.Count, len(report.left))
    return {"node": report.node, "evicted": report.evicted, "deleted": report.deleted, "left": report.left}
