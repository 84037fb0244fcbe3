"""Auto Scaling is asked to wait once a minute, and told when it need not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from htcgrid_eks.lifecycle import Lifecycle, LifecycleAction

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACTION = LifecycleAction.model_validate(
    {
        "AutoScalingGroupName": "group",
        "LifecycleHookName": "hook",
        "EC2InstanceId": "i-1",
        "LifecycleActionToken": "87654321-4321-4321-4321-210987654321",
    }
)
REQUEST = {
    "AutoScalingGroupName": "group",
    "LifecycleHookName": "hook",
    "InstanceId": "i-1",
    "LifecycleActionToken": "87654321-4321-4321-4321-210987654321",
}
COMPLETION = {**REQUEST, "LifecycleActionResult": "CONTINUE"}
CLIENT = boto3.client("autoscaling", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")


@pytest.fixture
def auto_scaling() -> Iterator[Stubber]:
    """Checks requests against the service's model, and that all that are expected come."""
    with Stubber(CLIENT) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def refuse(auto_scaling: Stubber, operation: str, code: str, request: dict[str, Any]) -> None:
    auto_scaling.add_client_error(operation, code, "No active Lifecycle Action found", expected_params=request)


def test_the_wait_is_extended_once_a_minute(auto_scaling: Stubber) -> None:
    for _ in range(2):
        auto_scaling.add_response("record_lifecycle_action_heartbeat", {}, REQUEST)
    lifecycle = Lifecycle(CLIENT)
    for second in range(0, 120, 2):
        lifecycle.extend(ACTION, NOON + timedelta(seconds=second))


def test_a_heartbeat_that_is_refused_costs_nothing_else(auto_scaling: Stubber) -> None:
    refuse(auto_scaling, "record_lifecycle_action_heartbeat", "ValidationError", REQUEST)
    Lifecycle(CLIENT).extend(ACTION, NOON)


def test_an_action_is_completed(auto_scaling: Stubber) -> None:
    auto_scaling.add_response("complete_lifecycle_action", {}, COMPLETION)
    Lifecycle(CLIENT).complete(ACTION)


def test_an_action_that_is_over_already_is_complete(auto_scaling: Stubber) -> None:
    refuse(auto_scaling, "complete_lifecycle_action", "ValidationError", COMPLETION)
    Lifecycle(CLIENT).complete(ACTION)


def test_a_permission_that_is_missing_is_told(auto_scaling: Stubber) -> None:
    refuse(auto_scaling, "complete_lifecycle_action", "AccessDenied", COMPLETION)
    with pytest.raises(ClientError, match="AccessDenied"):
        Lifecycle(CLIENT).complete(ACTION)
