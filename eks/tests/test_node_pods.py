"""Which pods are told before their node ends, and until when they are asked politely."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from htcgrid_eks.node_pods import force_at, is_told, pods_to_drain
from htcgrid_eks.objects import Pod

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PATIENCE = timedelta(minutes=5)


def pod(name: str = "pod", phase: str = "Running", grace: int = 30, **metadata: Any) -> Pod:
    return Pod.model_validate(
        {
            "metadata": {"name": name, "namespace": "grid", "uid": name, **metadata},
            "spec": {"terminationGracePeriodSeconds": grace, "nodeName": "node"},
            "status": {"phase": phase},
        }
    )


def owned_by(kind: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "apps/v1", "kind": kind, "name": "owner", "uid": "1", "controller": True}]


@pytest.mark.parametrize(
    "stays",
    [
        pod("of-a-daemon-set", ownerReferences=owned_by("DaemonSet")),
        pod("static", annotations={"kubernetes.io/config.mirror": "a1"}),
        pod("has-succeeded", phase="Succeeded"),
        pod("has-failed", phase="Failed"),
    ],
    ids=str,
)
def test_a_pod_stays_that_would_come_again_or_has_nothing_to_lose(stays: Pod) -> None:
    assert pods_to_drain([stays]) == []


@pytest.mark.parametrize(
    "goes",
    [
        pod("of-a-deployment", ownerReferences=owned_by("ReplicaSet")),
        pod("of-a-job", ownerReferences=owned_by("Job")),
        pod("of-nobody"),
        pod("not-started", phase="Pending"),
    ],
    ids=str,
)
def test_all_others_go(goes: Pod) -> None:
    assert pods_to_drain([goes]) == [goes]


def test_a_pod_that_is_being_deleted_has_been_told() -> None:
    assert is_told(pod(deletionTimestamp="2026-01-01T12:00:00Z"))
    assert not is_told(pod())


def test_a_refused_pod_is_deleted_when_patience_ends() -> None:
    assert force_at(pod(), NOON, PATIENCE, host_ends=None) == NOON + PATIENCE


def test_a_refused_pod_is_deleted_so_early_that_it_has_its_grace_before_the_host_ends() -> None:
    ends = NOON + timedelta(seconds=120)
    assert force_at(pod(grace=30), NOON, PATIENCE, ends) == NOON + timedelta(seconds=90)
    assert force_at(pod(grace=600), NOON, PATIENCE, ends) < NOON, "at the first refusal"
    assert force_at(pod(grace=30), NOON, timedelta(seconds=10), ends) == NOON + timedelta(seconds=10)
