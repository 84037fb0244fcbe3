"""What all Lambda functions share: logger, tracer, metrics, the decorator of a handler, and the control plane."""

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.logging import utils
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane

_Answer = TypeVar("_Answer")
_Handler = Callable[[dict[str, Any], LambdaContext], _Answer]
_PACKAGES = ("htcgrid_controlplane", "htcgrid_chunks")

logger = Logger()
tracer = Tracer()
metrics = Metrics()
# Most calls count nothing, and each would write a line.
warnings.filterwarnings("ignore", "No application metrics to publish")


def count(name: str, value: int) -> None:
    """Add a number to the metric of this name; nothing if it is 0."""
    if value:
        metrics.add_metric(name, MetricUnit.Count, value)


def observed(handler: "_Handler[_Answer]") -> "_Handler[_Answer]":
    """Let a handler log with its request's id, be traced without its answer, and publish its metrics."""
    observed: _Handler[_Answer] = logger.inject_lambda_context(
        tracer.capture_lambda_handler(capture_response=False)(metrics.log_metrics(handler))
    )
    return observed


@cache
def control_plane() -> ControlPlane:
    """The control plane of this process, as its environment describes it."""
    # What the packages log is to be found by the same keys as what the functions log.
    for package in _PACKAGES:
        logging.getLogger(package)
    utils.copy_config_to_registered_loggers(logger, include=set(_PACKAGES))
    return ControlPlane(Settings.from_environment(), count=count)
