"""The deletion-cost controller as a process of its own, with the rights of its chart, and the real controllers.

KWOK plays the kubelets. The pods' addresses lead here, so that the agents of all pods are one server, which says of
each what the test wants.
"""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from htcgrid.private_files import write_private
from htcgrid_eks.deletion_cost.costs import ANNOTATION as COST
from htcgrid_eks.deletion_cost.costs import BUSY
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.controllers import ACCOUNT, render
from tests.kubernetes.part import Part, answers
from tests.kubernetes.places import LOGS
from tests.kubernetes.simulated import ANNOTATION, Kwok
from tests.kubernetes.waiting import until

ADDRESSES = "10.77.0.0/16"
AGENT_PORT = 18080
HEALTH_PORT = 18081
NODE = "pool-of-agents"
LABELS = {"app.kubernetes.io/name": "htcgrid-agents"}
SELECTOR = "app.kubernetes.io/name=htcgrid-agents"
MANY, FEW = 20, 10
REPEATS = 5


class Pool:
    """A deployment of agents, of which some are busy."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.busy: frozenset[str] = frozenset()
        """Names of pods."""
        self._addresses: dict[str, str] = {}
        pod = {
            "nodeSelector": {"kubernetes.io/hostname": NODE},
            "tolerations": [{"key": ANNOTATION, "operator": "Exists"}],
            "containers": [{"name": "agent", "image": "none"}],
        }
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "pool"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
        }
        cluster.apply(deployment, namespace)

    def scale(self, replicas: int) -> None:
        """Returns when so many pods are ready, and no more are there."""
        self.cluster.apps.patch_namespaced_deployment_scale("pool", self.namespace, {"spec": {"replicas": replicas}})

        def settled() -> bool:
            pods = self.cluster.pods(self.namespace, SELECTOR)
            return len(pods) == replicas == len(self.cluster.ready_pods(self.namespace, SELECTOR))

        until(settled, f"the pool has {replicas} agents")
        self._addresses = {pod.status.pod_ip: pod.metadata.name for pod in self.cluster.pods(self.namespace, SELECTOR)}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(pod.metadata.name for pod in self.cluster.pods(self.namespace, SELECTOR))

    def costly(self) -> frozenset[str]:
        """Names of the pods with a deletion cost."""
        pods = self.cluster.pods(self.namespace, SELECTOR)
        return frozenset(pod.metadata.name for pod in pods if (pod.metadata.annotations or {}).get(COST) == BUSY)

    def answer(self, address: str) -> str:
        """What the agent at an address says of itself."""
        return "1\n" if self._addresses.get(address) in self.busy else "0\n"


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    name = cluster.new_namespace("pool", security="privileged")
    cluster.apply(
        render(
            name,
            deletionCost={"image": "not-started-by-kubernetes"},
            nodeDrainer={"enabled": False},
            # No node is for it: the program runs here.
            scheduling={"nodeSelector": {"none": "none"}},
        ),
        name,
    )
    return name


@pytest.fixture(scope="module")
def pool(cluster: Cluster, kwok: Kwok, namespace: str) -> Iterator[Pool]:
    kwok.add_node(NODE)
    spec = {"podCIDR": ADDRESSES, "podCIDRs": [ADDRESSES]}
    cluster.core.patch_node(NODE, {"metadata": {"labels": {"kubernetes.io/hostname": NODE}}, "spec": spec})
    pool = Pool(cluster, namespace)

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/busy"
            text = pool.answer(self.connection.getsockname()[0]).encode()
            self.send_response_only(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    route = ["ip", "route", "add", "local", ADDRESSES, "dev", "lo"]
    subprocess.run(route, check=True)
    with ThreadingHTTPServer(("0.0.0.0", AGENT_PORT), Agent) as server:  # noqa: S104 - at the addresses of all pods
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield pool
        server.shutdown()
        thread.join()
    subprocess.run([*route[:2], "del", *route[3:]], check=True)
    cluster.apps.delete_namespaced_deployment("pool", namespace)


@pytest.fixture(scope="module")
def kubeconfig(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the rights of the controller's own account."""
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))
    answer: Any = cluster.core.create_namespaced_service_account_token(ACCOUNT, namespace, request)
    content = json.loads(cluster.kubeconfig.read_text(encoding="utf-8"))
    content["users"][0]["user"] = {"token": answer.status.token}
    path = tmp_path_factory.mktemp("controller") / "kubeconfig"
    write_private(path, json.dumps(content))
    return path


@pytest.fixture
def controller(cluster: Cluster, kubeconfig: Path, namespace: str) -> Iterator[Callable[..., Part]]:
    """Starts the controller."""
    parts = []

    def start(interval: float = 1, patches_per_second: float = 100) -> Part:
        part = Part(
            cluster.processes,
            f"deletion-cost-{len(list(LOGS.glob('deletion-cost-*')))}",
            [Path(sys.executable).with_name("htcgrid-deletion-cost")],
            answers(f"http://127.0.0.1:{HEALTH_PORT}/live"),
            {
                "KUBECONFIG": str(kubeconfig),
                "HTCGRID_NAMESPACE": namespace,
                "HTCGRID_AGENT_PORT": str(AGENT_PORT),
                "HTCGRID_HEALTH_PORT": str(HEALTH_PORT),
                "HTCGRID_INTERVAL_SECONDS": str(interval),
                "HTCGRID_PATCHES_PER_SECOND": str(patches_per_second),
            },
        )
        parts.append(part)
        part.start()
        part.wait()
        return part

    yield start
    for part in parts:
        part.stop()


def test_fewer_busy_agents_are_lost_when_a_pool_shrinks(pool: Pool, controller: Callable[..., Part]) -> None:
    choose = random.Random(1)
    without = [_busy_ones_lost(pool, choose) for _ in range(REPEATS)]
    controller()
    with_it = [_busy_ones_lost(pool, choose, lambda: pool.costly() == pool.busy) for _ in range(REPEATS)]
    figures = {"replicas": [MANY, FEW], "busy": FEW, "lost without": without, "lost with": with_it}
    (LOGS / "deletion-cost.json").write_text(json.dumps(figures), encoding="utf-8")
    assert sum(with_it) == 0
    assert sum(without) > 0, "or else there is nothing to save"


def _busy_ones_lost(pool: Pool, choose: random.Random, is_ready: Callable[[], bool] = lambda: True) -> int:
    pool.busy = frozenset()
    pool.scale(MANY)
    pool.busy = frozenset(choose.sample(sorted(pool.names), FEW))
    until(is_ready, "all busy pods have a cost, and no others")
    pool.scale(FEW)
    return len(pool.busy - pool.names)


def test_a_cost_is_taken_back_when_the_task_ends(pool: Pool, controller: Callable[..., Part]) -> None:
    pool.scale(MANY)
    first, second = _halves(pool.names)
    controller()
    pool.busy = first
    until(lambda: pool.costly() == first, "the first half has a cost")
    pool.busy = second
    until(lambda: pool.costly() == second, "the second half alone has a cost")
    pool.scale(FEW)
    assert pool.names == second


def test_a_controller_that_ends_takes_all_costs_back(pool: Pool, controller: Callable[..., Part]) -> None:
    pool.scale(MANY)
    pool.busy = pool.names
    part = controller()
    until(lambda: pool.costly() == pool.busy, "all have a cost")
    part.stop()
    assert pool.costly() == frozenset()


def test_no_more_pods_are_patched_than_the_rate_allows(pool: Pool, controller: Callable[..., Part]) -> None:
    pool.busy = frozenset()
    pool.scale(MANY)
    part = controller(interval=1, patches_per_second=3)
    pool.busy = pool.names
    until(lambda: pool.costly() == pool.busy, "all have a cost")
    # It is said after a round what was done in it.
    until(lambda: sum(_changed(part)) >= MANY, "all changes are in the log")
    assert max(_changed(part)) == 3
    assert sum(_changed(part)) == MANY, "and no pod twice"


def test_costs_are_kept_again_when_the_api_server_was_away(
    pool: Pool, cluster: Cluster, controller: Callable[..., Part]
) -> None:
    pool.scale(MANY)
    first, second = _halves(pool.names)
    part = controller()
    pool.busy = first
    until(lambda: pool.costly() == first, "the first half has a cost")
    cluster.api_server.kill()
    pool.busy = second
    until(lambda: any("cannot be patched" in line for line in _log(part)), "a patch has failed")
    cluster.api_server.start()
    cluster.api_server.wait()
    until(lambda: pool.costly() == second, "the second half alone has a cost")
    pool.scale(FEW)
    pool.scale(MANY)
    pool.busy = pool.names
    until(lambda: pool.costly() == pool.busy, "pods that came since are watched too")


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"containers": [{"name": "agent", "image": "another"}]}},
        {"metadata": {"labels": {"app.kubernetes.io/name": "another"}}},
        {"metadata": {"annotations": {"another": "1"}}},
        {"metadata": {"annotations": {"kept": None}}},
        {"metadata": {"annotations": {"kept": "changed"}}},
        {"metadata": {"finalizers": ["another/finalizer"]}},
    ],
    ids=["image", "label", "annotation", "annotation-removed", "annotation-changed", "finalizer"],
)
def test_its_account_changes_the_cost_of_a_pod_and_nothing_else(
    pool: Pool, cluster: Cluster, kubeconfig: Path, patch: dict[str, Any]
) -> None:
    pool.scale(1)
    (name,) = pool.names
    cluster.core.patch_namespaced_pod(name, pool.namespace, {"metadata": {"annotations": {"kept": "as it is"}}})
    core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))  # type: ignore[no-untyped-call]
    core.patch_namespaced_pod(name, pool.namespace, {"metadata": {"annotations": {COST: BUSY}}})
    core.patch_namespaced_pod(name, pool.namespace, {"metadata": {"annotations": {COST: None}}})
    with pytest.raises(ApiException, match="and nothing else"):
        core.patch_namespaced_pod(name, pool.namespace, patch)
    for forbidden in (
        lambda: core.delete_namespaced_pod(name, pool.namespace),
        lambda: core.list_namespaced_pod("kube-system"),
        lambda: core.list_namespaced_secret(pool.namespace),
    ):
        with pytest.raises(ApiException, match="Forbidden"):
            forbidden()


def _halves(names: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    ordered = sorted(names)
    return frozenset(ordered[:FEW]), frozenset(ordered[FEW:])


def _changed(part: Part) -> list[int]:
    """How many costs were changed in each round."""
    return [int(line.split("changed=")[1].split(",")[0]) for line in _log(part) if "changed=" in line]


def _log(part: Part) -> list[str]:
    return [
        json.loads(line)["message"] for line in part.log.read_text(encoding="utf-8").splitlines() if line[:1] == "{"
    ]
