"""Which events the node drainer takes, and which settings."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from htcgrid_eks.errors import BadSettings
from htcgrid_eks.node_drainer import ENDING, Settings, SpotInterruption, Termination

ENVIRONMENT = {
    "HTCGRID_CLUSTER_NAME": "grid",
    "HTCGRID_CLUSTER_ENDPOINT": "https://0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com",
    "HTCGRID_CLUSTER_CA": "LS0t",
}


def event(kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    return {"version": "0", "detail-type": kind, "time": "2026-01-01T12:00:00Z", "resources": [], "detail": detail}


def test_an_end_that_a_group_wants_names_its_wait() -> None:
    detail = {
        "LifecycleActionToken": "87654321-4321-4321-4321-210987654321",
        "AutoScalingGroupName": "group",
        "LifecycleHookName": "hook",
        "EC2InstanceId": "i-1234567890abcdef0",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
    }
    found = ENDING.validate_python(event("EC2 Instance-terminate Lifecycle Action", detail))
    assert isinstance(found, Termination)
    assert (found.instance, found.detail.group, found.detail.hook) == ("i-1234567890abcdef0", "group", "hook")


def test_a_spot_notice_says_when_it_was_given() -> None:
    detail = {"instance-id": "i-1234567890abcdef0", "instance-action": "terminate"}
    found = ENDING.validate_python(event("EC2 Spot Instance Interruption Warning", detail))
    assert isinstance(found, SpotInterruption)
    assert (found.instance, found.time) == ("i-1234567890abcdef0", datetime(2026, 1, 1, 12, tzinfo=UTC))


def test_another_event_is_refused() -> None:
    with pytest.raises(ValidationError, match="detail-type"):
        ENDING.validate_python(event("EC2 Instance-launch Lifecycle Action", {}))


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_environment(ENVIRONMENT | {"HTCGRID_EVICTION_SECONDS": "60"})
    assert (settings.cluster_name, settings.eviction_seconds) == ("grid", 60)


def test_each_wrong_setting_is_named() -> None:
    wrong = {"HTCGRID_CLUSTER_ENDPOINT": "http://10.0.0.1", "HTCGRID_EVICTION_SECONDS": "-1"}
    with pytest.raises(BadSettings) as raised:
        Settings.from_environment(wrong)
    for name in (*ENVIRONMENT, "HTCGRID_EVICTION_SECONDS"):
        assert name in str(raised.value)
