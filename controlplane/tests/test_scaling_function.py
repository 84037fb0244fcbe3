"""The function that publishes how many agents are wanted, on real queues, tables and metrics."""

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import boto3
import pytest
from tests.support.control_plane_harness import Harness

from htcgrid_controlplane import observability
from htcgrid_controlplane.errors import ScalingFailed
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.rules.scaling import Work
from htcgrid_controlplane.storage.partitions import minute_of
from htcgrid_events import Priority

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDataQueryTypeDef

_APP = Path(__file__).resolve().parents[2] / "functions/scaling/app.py"
NAMES = ("Backlog", "InFlight", "OutstandingSeconds", "DesiredAgents", "AgentsPerMillionChunks")


@pytest.fixture
def function(own_harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(observability.metrics.provider, "namespace", "HTCGrid")
    monkeypatch.setattr(observability.metrics.provider, "service", "htcgrid")
    monkeypatch.setattr(observability, "control_plane", lambda: own_harness.grid)
    spec = importlib.util.spec_from_file_location("scaling_app", _APP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(function: ModuleType) -> None:
    context = SimpleNamespace(
        function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="r"
    )  # fmt: skip
    function.handler({}, context)


def published(harness: Harness) -> dict[str, float]:
    """The highest value of each metric of this test's grid."""
    now = datetime.now(UTC)
    dimensions: list[DimensionTypeDef] = [
        {"Name": "Grid", "Value": harness.grid.settings.grid},
        {"Name": "Partition", "Value": "default"},
    ]
    queries: list[MetricDataQueryTypeDef] = [
        {
            "Id": name.lower(),
            "Label": name,
            "MetricStat": {
                "Metric": {"Namespace": "HTCGrid", "MetricName": name, "Dimensions": dimensions},
                "Period": 3600,
                "Stat": "Maximum",
            },
        }
        for name in NAMES
    ]
    answer = boto3.client("cloudwatch").get_metric_data(
        MetricDataQueries=queries, StartTime=now - timedelta(hours=2), EndTime=now + timedelta(hours=1)
    )
    return {each["Label"]: max(each["Values"]) for each in answer["MetricDataResults"] if each["Values"]}


def test_before_anything_finished_the_queues_alone_count(own_harness: Harness, function: ModuleType) -> None:
    own_harness.create(1, 1, 1)
    own_harness.create(1, 1, priority=Priority.HIGH)
    call(function)
    assert published(own_harness) == {"Backlog": 5, "InFlight": 0, "DesiredAgents": 3}


def test_work_decides_once_it_is_known(own_harness: Harness, function: ModuleType) -> None:
    own_harness.create(*[500] * 20)
    own_harness.create(500, priority=Priority.LOW)
    url = own_harness.queue_url()
    own_harness.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)
    store, minute = own_harness.grid.partitions, minute_of(own_harness.clock())
    store.add_work("default", minute - 600, Work(attempts=4, tasks=2_000, worker_us=48_000_000))
    call(function)
    assert published(own_harness) == {
        "Backlog": 20,
        "InFlight": 1,
        "OutstandingSeconds": 21 * 12,
        "DesiredAgents": 3,
        "AgentsPerMillionChunks": 100_000,
    }
    assert store.last_minutes("default", 1)[0].in_flight == 1


def test_a_partition_that_cannot_be_told_of_costs_no_other_anything(own_harness: Harness, function: ModuleType) -> None:
    gone = dict.fromkeys(Priority, f"{own_harness.queue_url()}-that-is-gone")
    own_harness.grid.partition_registry.register(Partition("broken", "a stack", gone))
    own_harness.clock.now += 11_000
    own_harness.create(1)
    with pytest.raises(ScalingFailed, match="broken"):
        call(function)
    assert published(own_harness)["DesiredAgents"] == 1


def test_an_idle_grid_is_told_of_too_and_no_row_is_written(own_harness: Harness, function: ModuleType) -> None:
    call(function)
    assert published(own_harness) == {"Backlog": 0, "InFlight": 0, "OutstandingSeconds": 0, "DesiredAgents": 0}
    assert own_harness.grid.partitions.last_minutes("default", 1) == []
