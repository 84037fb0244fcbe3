"""A pool of agents: a release of the agents' chart, with images and a function that are built here."""

import importlib.metadata
import shutil
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import helm_python

from htcgrid_local.keys import REGION
from tests.kubernetes import images
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.grid import FUNCTION, KubernetesGrid
from tests.kubernetes.node import Node
from tests.kubernetes.places import HOST, ROOT
from tests.kubernetes.waiting import until

CHART: Final = ROOT / "eks/chart/htcgrid-agents"
NAMESPACE: Final = "pool"
RELEASE: Final = "agents"
SELECTOR: Final = f"app.kubernetes.io/instance={RELEASE}"
MAX_AGENTS: Final = 4
_OWN_FUNCTION: Final = Path(__file__).parent / "function"
_SECRET: Final = "agents-aws"
_SCALING_SECRET: Final = "scaling-aws"
_WORKER: Final = "localhost/htcgrid/pool:test"

Values = dict[str, Any]


class Pool:
    """Agents as pods of the real node. `install` it once; a test that changes its values calls `upgrade`."""

    def __init__(self, cluster: Cluster, node: Node, grid: KubernetesGrid) -> None:
        self.cluster, self.node, self.grid = cluster, node, grid
        self._helm = helm_python.Config(kubeconfig_path=cluster.kubeconfig, namespace=NAMESPACE)
        # A release begins with one. If it had to go again while it starts, it might stay for its whole grace period.
        self._kept = 1

    def install(self) -> None:
        """Give the node the images, and install the chart as an operator does, in a restricted namespace."""
        self.node.import_image(images.image("agent").archive)
        self.node.import_image(_build_worker())
        self.cluster.new_namespace(NAMESPACE)
        for name, environment in (
            (_SECRET, self.grid.agent_environment()),
            (_SCALING_SECRET, self.grid.keda_environment),
        ):
            keys = {key: value for key, value in environment.items() if "KEY" in key or "TOKEN" in key}
            self.cluster.apply(_secret(name, keys), NAMESPACE)
        self._helm.install(str(CHART), RELEASE, self.values())
        self.rest()

    def upgrade(self, values: Mapping[str, Any]) -> None:
        """Change some of the values, as `helm upgrade --reuse-values` does not: all others are as at first."""
        self._helm.upgrade(str(CHART), RELEASE, merged(self.values(), values))

    def keep(self, agents: int) -> None:
        """Have so many agents even without work. Returns once these are there, and no others."""
        self._kept = agents
        self.upgrade({})
        self.rest()

    def uninstall(self) -> None:
        """Remove the release, and wait until its pods are gone."""
        self._helm.uninstall(RELEASE, ignore_not_found=True)
        until(lambda: not self.pods(), "no pod of the pool is left")

    def pods(self) -> list[Any]:
        """The pods of all agents."""
        return self.cluster.pods(NAMESPACE, SELECTOR)

    def agents(self) -> list[Any]:
        """The pods of the agents that work."""
        return self.cluster.ready_pods(NAMESPACE, SELECTOR)

    def wait_for_agents(self) -> list[Any]:
        """The pods of the agents that work, once there are some and no other is about to come or to go."""
        return until(
            lambda: found if len(found := self.agents()) == len(self.pods()) else [], "all agents of the pool work"
        )

    def wait_for(self, count: int) -> None:
        """Return once so many agents work, and no other is there."""
        until(lambda: len(self.agents()) == len(self.pods()) == count, f"{count} agents")

    def rest(self) -> None:
        """Return once no agents are there but those that are kept without work."""
        self.wait_for(self._kept)

    def logs(self) -> str:
        """What agents and workers said, for an error's text."""
        return "\n".join(
            f"--- {pod.metadata.name} {container}\n{self._log(pod.metadata.name, container)}"
            for pod in self.pods()
            for container in ("agent", "worker")
        )

    def values(self) -> Values:
        """The values of the release, in which a test may change some."""
        outputs = self.grid.local.outputs
        return {
            "region": REGION,
            "longestTaskSeconds": 120,
            "grid": {
                "name": "htcgrid",
                "chunksTable": outputs["ChunksTable"],
                "taskQueueUrls": self.grid.queues,
                "taskEventsQueueUrl": outputs["TaskEventsQueueUrl"],
                "dataBucket": outputs["DataBucket"],
                "endpointUrl": self.grid.endpoint_url,
            },
            "credentials": {"source": "secret", "secretName": _SECRET, "scalingSecretName": _SCALING_SECRET},
            # Leases short enough to be lost within a test, and long enough to be kept on a busy machine.
            "agent": {
                "image": images.image("agent").reference,
                "imagePullPolicy": "Never",
                "cpu": 10,
                "memory": 256,
                "leaseSeconds": 30,
            },
            "worker": {"image": _WORKER, "imagePullPolicy": "Never", "minCPU": 10, "minMemory": 256},
            "function": {"handler": "pool_function.handler"},
            "scaling": {
                "minAgents": self._kept,
                "maxAgents": MAX_AGENTS,
                "pollingSeconds": 2,
                "cooldownSeconds": 5,
                "scaleInAfterSeconds": 5,
                "scaleInPercent": 100,
                "bound": False,
            },
            "networkPolicy": {"egress": [{"cidr": f"{HOST}/32", "port": urlsplit(self.grid.endpoint_url).port}]},
        }

    def _log(self, pod: str, container: str) -> str:
        try:
            return str(self.cluster.core.read_namespaced_pod_log(pod, NAMESPACE, container=container, tail_lines=30))
        except Exception as error:  # noqa: BLE001 - it explains another failure
            return f"({error})"


def merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> Values:
    """Values with others over them, as Helm puts them together."""
    result = deepcopy(dict(values))
    for key, value in others.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return result


def _build_worker() -> Path:
    """The image that a user would make: ours for Python, with the function in it."""
    base = images.image("worker-python").reference
    context = images.FOLDER / "pool"
    shutil.rmtree(context, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in (FUNCTION, _OWN_FUNCTION):
        shutil.copytree(folder, context / "function", ignore=ignored, dirs_exist_ok=True)
    for file in importlib.metadata.files("QuantLib") or ():
        if not file.parts[0].endswith(".dist-info") and "__pycache__" not in file.parts:
            copy = context / "function" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), copy)
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY function /var/task\n")
    archive = images.FOLDER / "pool.tar"
    archive.unlink(missing_ok=True)
    for command in (
        ["bud", "--isolation", "chroot", "--quiet", "--pull-never", "--tag", _WORKER, str(context)],
        ["push", "--quiet", _WORKER, f"docker-archive:{archive}:{_WORKER}"],
    ):
        subprocess.run([*images.BUILDAH, *command], check=True, stdout=subprocess.DEVNULL)
    return archive


def _secret(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(values)}
