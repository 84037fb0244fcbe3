"""Simulated nodes: KWOK, which plays the kubelet of every node with an annotation, and Karpenter, which orders them."""

from typing import Any, Final

from htcgrid.private_files import write_private
from htcgrid_local.private_files import make_private_folder
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.part import Part, answers
from tests.kubernetes.places import BUILT, STATE

ANNOTATION: Final = "kwok.x-k8s.io/node"
SIMULATED: Final = "fake"
"""Value of the annotation of nodes that KWOK plays; Karpenter's own provider sets it as well."""
_DEFINITIONS: Final = BUILT / "definitions"
_STAGES: Final = ("node/fast", "node/heartbeat", "pod/fast")


class Kwok:
    """Plays the kubelets of simulated nodes, on which every pod runs at once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        folder = STATE / "kwok"
        make_private_folder(folder)
        stages = [
            stage.read_text(encoding="utf-8")
            for name in _STAGES
            for stage in sorted((_DEFINITIONS / "kwok" / name).glob("*.yaml"))
            if stage.name != "kustomization.yaml"
        ]
        write_private(folder / "stages.yaml", "\n---\n".join(stages))
        self.part = Part(
            cluster.processes,
            "kwok",
            [BUILT / "bin/kwok", f"--kubeconfig={cluster.kubeconfig}", f"--config={folder / 'stages.yaml'}",
             f"--manage-nodes-with-annotation-selector={ANNOTATION}={SIMULATED}",
             "--server-address=127.0.0.1:10247"],
            answers("http://127.0.0.1:10247/healthz"),
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.part.start()
        self.part.wait()

    def stop(self) -> None:
        """End it."""
        self.part.stop()

    def add_node(self, name: str, cpu: str = "64", memory: str = "256Gi", pods: int = 500, **labels: str) -> None:
        """Add a simulated node, which takes only pods that tolerate it."""
        labels = {"type": "kwok", "kubernetes.io/os": "linux", **labels}
        capacity = {"cpu": cpu, "memory": memory, "pods": str(pods)}
        node: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "annotations": {ANNOTATION: SIMULATED}, "labels": labels},
            "spec": {"taints": [{"key": ANNOTATION, "value": SIMULATED, "effect": "NoSchedule"}]},
            "status": {"capacity": capacity, "allocatable": capacity},
        }
        self._cluster.apply(node)
        self._cluster.core.patch_node_status(name, {"status": node["status"]})


class Karpenter:
    """Karpenter with its own simulated provider; KWOK plays the nodes that it orders."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.part = Part(
            cluster.processes,
            "karpenter",
            [BUILT / "bin/karpenter", "--disable-leader-election=true", "--metrics-port=9180",
             "--health-probe-port=9181", "--batch-idle-duration=1s"],
            answers("http://127.0.0.1:9181/readyz"),
            {"KUBECONFIG": str(cluster.kubeconfig), "SYSTEM_NAMESPACE": "kube-system"},
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and return once it answers. EC2NodeClass is defined as well; nobody acts on it."""
        self._cluster.apply(_DEFINITIONS / "karpenter")
        self.part.start()
        self.part.wait()

    def stop(self) -> None:
        """End it."""
        self.part.stop()
