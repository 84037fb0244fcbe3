"""What the fixtures promise to the other tests here."""

from typing import Any

from kubernetes import client

from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.node import NAME, PAUSE, Node
from tests.kubernetes.waiting import until

_RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pause_pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod that does nothing, as the strictest level of Pod Security wants it."""
    container = {"name": "pause", "image": PAUSE, "imagePullPolicy": "Never", "securityContext": _RESTRICTED}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "automountServiceAccountToken": False, **spec},
    }


def test_the_api_server_is_the_version_that_go_mod_names(cluster: Cluster) -> None:
    version = client.VersionApi(cluster.api).get_code()

    assert version.git_version == "v1.36.3"


def test_a_pod_runs_on_the_real_node(cluster: Cluster, node: Node) -> None:
    namespace = cluster.new_namespace("real-pods")
    cluster.apply(pause_pod("one"), namespace)

    [pod] = until(lambda: cluster.ready_pods(namespace), "a pod on the real node is ready")
    assert pod.spec.node_name == NAME

    cluster.delete(pause_pod("one"), namespace)
    until(lambda: not cluster.pods(namespace), "the pod is gone")
