"""The agents' chart on a real API server, and what user code can reach in its pods."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from eks.tests.rendering import CASES, NAMESPACE, agent_pod, objects, pods, render
from kubernetes.client.exceptions import ApiException

from tests.kubernetes import images
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.grid import KubernetesGrid
from tests.kubernetes.identity import ADDRESS, PodIdentity
from tests.kubernetes.node import Node
from tests.kubernetes.places import BUILT, HOST
from tests.kubernetes.waiting import until

HERE = Path(__file__).parent
RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "nvidia",
}
"""What an operator with GPUs has."""


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that enforces Pod Security's strictest level, with what releases expect to be there."""
    cluster.apply(BUILT / "definitions/keda")
    cluster.new_namespace(NAMESPACE)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agents"}}
    cluster.apply([RUNTIME_CLASS, account], NAMESPACE)
    yield NAMESPACE
    cluster.core.delete_namespace(NAMESPACE)


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_all_that_is_rendered(case: str, cluster: Cluster, restricted: str) -> None:
    # A PodMonitor is defined by the Prometheus operator, which is not here.
    rendered = [each for each in objects(case) if each["kind"] not in {"PodMonitor", "Pod"}]
    applied = cluster.apply(rendered, restricted)
    try:
        assert [each.kind for each in applied] == [each["kind"] for each in rendered]
        # Of a Deployment's pods Pod Security only warns; it refuses the pods themselves.
        for number, pod in enumerate(pods(objects(case))):
            single = {"apiVersion": "v1", "kind": "Pod", **pod}
            single["metadata"] = {**pod["metadata"], "name": f"{case}-{number}", "namespace": restricted}
            if "hostPath" in json.dumps(pod):
                # A folder of the node is the one thing for which an operator must loosen the namespace.
                with pytest.raises(ApiException, match="restricted volume types"):
                    cluster.apply(single)
                single = _without_folders_of_the_node(single)
            cluster.apply(single)
            cluster.delete(single)
    finally:
        cluster.delete(rendered, restricted)


def _without_folders_of_the_node(pod: dict[str, Any]) -> dict[str, Any]:
    pod = json.loads(json.dumps(pod))
    for volume in pod["spec"]["volumes"]:
        if volume.pop("hostPath", None):
            volume["emptyDir"] = {}
    return pod


def test_a_pod_with_more_rights_would_be_refused(cluster: Cluster, restricted: str) -> None:
    pod = json.loads(json.dumps(agent_pod(objects("grid"))))
    pod["metadata"] |= {"name": "more-rights", "namespace": restricted}
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    del pod["spec"]["priorityClassName"]
    pod["spec"]["serviceAccountName"] = "agents"
    with pytest.raises(ApiException, match="allowPrivilegeEscalation != false"):
        cluster.apply({"apiVersion": "v1", "kind": "Pod", **pod})


def test_keda_s_definitions_refuse_a_field_that_they_do_not_know(cluster: Cluster, restricted: str) -> None:
    (scaled,) = (json.loads(json.dumps(each)) for each in objects("grid") if each["kind"] == "ScaledObject")
    scaled["spec"]["fallback"]["behaviour"] = "currentReplicas"
    with pytest.raises(ApiException, match="behaviour"):
        cluster.apply(scaled, restricted)


# --- what user code finds in a real pod ---


def archive() -> bytes:
    """The intruder as a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.write(HERE / "intruder/intruder.py", "intruder.py")
    return file.getvalue()


def values_of(grid: KubernetesGrid, location: str, digest: str) -> dict[str, Any]:
    outputs = grid.local.outputs
    return {
        "region": "us-east-1",
        "grid": {
            "name": "htcgrid",
            "chunksTable": outputs["ChunksTable"],
            "taskQueueUrls": grid.queues,
            "taskEventsQueueUrl": outputs["TaskEventsQueueUrl"],
            "dataBucket": outputs["DataBucket"],
            "endpointUrl": grid.endpoint_url,
        },
        "agent": {"image": images.image("agent").reference, "imagePullPolicy": "Never", "cpu": 10},
        "worker": {
            "image": images.image("worker-python").reference,
            "imagePullPolicy": "Never",
            "minCPU": 10,
            "minMemory": 512,
        },
        "function": {"handler": "intruder.handler", "location": location, "sha256": digest},
        "scaling": {"enabled": False, "minAgents": 1},
        "networkPolicy": {"egress": [{"cidr": f"{HOST}/32", "port": urlsplit(grid.endpoint_url).port}]},
    }


@pytest.fixture(scope="module")
def found(cluster: Cluster, node: Node, grid: KubernetesGrid) -> Iterator[Mapping[str, Any]]:
    """What the intruder tells, run as a task in a pod that has its AWS credentials by Pod Identity."""
    bucket, key = grid.local.outputs["DataBucket"], "functions/inputs/intruder.zip"
    zipped = archive()
    grid.client("s3").put_object(Bucket=bucket, Key=key, Body=zipped)
    for name in ("agent", "worker-python"):
        node.import_image(images.image(name).archive)
    namespace = cluster.new_namespace("intruder")
    rendered = render(values_of(grid, f"s3://{bucket}/{key}", hashlib.sha256(zipped).hexdigest()), namespace)
    identity = PodIdentity(cluster.api, f"{namespace}:pool", grid.agent_environment())
    identity.start()
    try:
        cluster.apply(rendered, namespace)
        until(lambda: cluster.ready_pods(namespace), "an agent is ready")
        with grid.connect() as connection:
            (result,) = connection.submit([{"credentials": f"http://{ADDRESS}/v1/credentials"}]).results()
        assert isinstance(result, dict)
        yield result | {"given": identity.given, "pod": cluster.ready_pods(namespace)[0].metadata.name}
    finally:
        cluster.delete(rendered, namespace)
        until(lambda: not cluster.pods(namespace), "the pod is gone")
        identity.stop()


def test_the_agent_has_its_credentials_by_pod_identity(found: Mapping[str, Any]) -> None:
    assert found["given"] >= 2, "the function was fetched with them, and the task was taken from its queue"


def test_a_worker_finds_no_credentials(found: Mapping[str, Any]) -> None:
    assert found["tokens"] == []
    names = {*found["environment"], *found["environments"]}
    assert not {name for name in names if "TOKEN" in name or "SECRET" in name or "CREDENTIALS" in name or "KEY" in name}
    assert found["credentials"] == "401", "without the token nobody gets them"
    assert found["metadata"] == "unreachable"


def test_a_worker_sees_no_process_of_the_agent(found: Mapping[str, Any]) -> None:
    assert any("python_runtime" in command for command in found["processes"].values())
    assert not any(
        "htcgrid-agent" in command or "htcgrid_agent.main" in command for command in found["processes"].values()
    )
    assert found["processes"]["1"].split()[0] != "/pause"


def test_a_worker_may_do_nothing_that_its_pod_does_not_need(found: Mapping[str, Any]) -> None:
    assert found["user"] == 10002
    assert found["groups"] == [10000]
    assert found["written"] == []
    assert {int(value, 16) for value in found["capabilities"].values()} == {0}
