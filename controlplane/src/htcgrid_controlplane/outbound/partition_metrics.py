"""Publishes what partitions want as metrics of CloudWatch, where KEDA and people find it."""

from typing import TYPE_CHECKING

from htcgrid_controlplane.rules.scaling import Demand

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.client import CloudWatchClient
    from mypy_boto3_cloudwatch.literals import StandardUnitType
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

NAMESPACE = "HTCGrid"
_LEAST_SHARE = 0.001
"""KEDA takes a metric in thousandths, and 0 for one that nobody has measured."""


class PartitionMetrics:
    """Puts metrics with the dimensions `Grid` and `Partition`."""

    def __init__(self, client: "CloudWatchClient", grid: str) -> None:
        self._client = client
        self._grid = grid

    def put(self, partition: str, demand: Demand) -> None:
        """Publish what a partition wants, all in one request; what is not known is left out."""
        data = [
            self._datum(partition, "Backlog", demand.messages.waiting, "Count"),
            self._datum(partition, "InFlight", demand.messages.in_flight, "Count"),
            self._datum(partition, "DesiredAgents", demand.agents, "Count"),
        ]
        if demand.outstanding is not None:
            data.append(self._datum(partition, "OutstandingSeconds", demand.outstanding.total_seconds(), "Seconds"))
        if demand.agents_per_chunk is not None:
            share = max(_LEAST_SHARE, demand.agents_per_chunk * 1_000_000)
            data.append(self._datum(partition, "AgentsPerMillionChunks", share, "Count"))
        self._client.put_metric_data(Namespace=NAMESPACE, MetricData=data)

    def _datum(self, partition: str, name: str, value: float, unit: "StandardUnitType") -> "MetricDatumTypeDef":
        return {
            "MetricName": name,
            "Dimensions": [{"Name": "Grid", "Value": self._grid}, {"Name": "Partition", "Value": partition}],
            "Value": value,
            "Unit": unit,
        }
