"""KEDA and the autoscaler on queues and metrics, with simulated agents, and Karpenter, which gives these nodes."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from htcgrid_events import Priority
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.grid import KubernetesGrid
from tests.kubernetes.keda import Keda
from tests.kubernetes.simulated import ANNOTATION, Karpenter, Kwok
from tests.kubernetes.simulated_pool import MAX_AGENTS, SimulatedPool
from tests.kubernetes.waiting import until

NODE_POOL = "simulated"
NODE_CPUS = 16
AGENTS_OF_A_NODE = NODE_CPUS - 1
"""An agent asks for one processor, and a node keeps a part of one for itself."""
FEW_AGENTS = 20
KARPENTER_PATIENCE = 900.0
"""Seconds. At nodes that it left alone it looks again after five minutes (`ConsolidationState` in Karpenter's code)."""


@pytest.fixture
def make_pool(cluster: Cluster, grid: KubernetesGrid, keda: Keda) -> Iterator[Callable[..., SimulatedPool]]:
    pools: list[SimulatedPool] = []

    def make(name: str, **values: Any) -> SimulatedPool:
        pool = SimulatedPool(cluster, grid, name)
        pools.append(pool)
        pool.install(values)
        return pool

    yield make
    for pool in pools:
        pool.uninstall()


def test_the_queues_alone_count_until_the_work_is_known_which_then_decides(
    kwok: Kwok, make_pool: Callable[..., SimulatedPool]
) -> None:
    kwok.add_node("roomy")
    pool = make_pool("by-work", scheduling={"nodeSelector": {"type": "kwok"}})
    pool.send(7)
    pool.send(5, Priority.HIGH)
    pool.wait_for(12)
    pool.know(chunks=100, seconds=0.5)
    pool.wait_for(1)
    # A burst is weighed at once, without another word of the function.
    pool.send(1_008)
    until(lambda: pool.agents() == 9, "agents for 1,020 chunks of half a second", every=1)
    # Held chunks keep a worker each, though the means call them short and nothing waits.
    pool.empty()
    pool.send(6)
    held = pool.hold(6)
    pool.wait_for(6)
    pool.finish(held)
    pool.wait_for(0)


@pytest.fixture
def node_pool(cluster: Cluster, karpenter: Karpenter) -> Iterator[Callable[[int], None]]:
    """Sets how many processors the nodes of Karpenter's pool may have."""

    def limit(cpus: int) -> None:
        cluster.apply([_NODE_CLASS, _node_pool(cpus)])

    yield limit
    cluster.delete([_NODE_CLASS, _node_pool(0)])
    until(lambda: not _nodes(cluster), "no node of the pool is left", KARPENTER_PATIENCE)


def test_two_thousand_chunks_get_two_hundred_agents_within_the_limits_of_their_nodes_and_give_them_back(
    cluster: Cluster,
    node_pool: Callable[[int], None],
    make_pool: Callable[..., SimulatedPool],
    report: Callable[[str], None],
) -> None:
    node_pool(6 * NODE_CPUS)
    # With a spread over zones, nodes that are hardly used would stay: docs/kubernetes.md, "Zones".
    scheduling = {"nodeSelector": {"karpenter.sh/nodepool": NODE_POOL}, "topologySpread": []}
    pool = make_pool("on-karpenter", scheduling=scheduling)
    pool.send(2_000)

    def full() -> bool:
        nodes = len(_nodes(cluster))
        return pool.wanted() == MAX_AGENTS and nodes >= 6 and pool.agents() >= nodes * AGENTS_OF_A_NODE

    # Karpenter may overrun a limit by what it had begun ("NodePools", Karpenter), here by a node or two.
    until(full, "six nodes or a few more, full of agents", KARPENTER_PATIENCE, every=1)
    assert len(_nodes(cluster)) < MAX_AGENTS / NODE_CPUS
    assert pool.agents() < MAX_AGENTS == len(pool.pods())

    node_pool(1_000)
    pool.wait_for(MAX_AGENTS)
    many = len(_nodes(cluster))
    assert many >= MAX_AGENTS / NODE_CPUS

    # An interruption: the node goes, its agents are made anew elsewhere, and the pool is as large as before. A full
    # node, since Karpenter may take away others at any moment.
    [(lost, _)] = Counter(pod.spec.node_name for pod in pool.pods()).most_common(1)
    cluster.core.delete_node(lost)
    until(lambda: lost not in {node.metadata.name for node in _nodes(cluster)}, f"{lost} is drained and gone", every=1)
    pool.wait_for(MAX_AGENTS)

    # Few chunks are left: the pool shrinks, and its agents move together until no node could do without another.
    pool.empty()
    pool.send(FEW_AGENTS)
    pool.wait_for(FEW_AGENTS)
    fewest = math.ceil(FEW_AGENTS / AGENTS_OF_A_NODE)
    until(lambda: len(_nodes(cluster)) == fewest, f"agents on {fewest} nodes", KARPENTER_PATIENCE, every=1)
    report(f"Karpenter: {MAX_AGENTS} agents on {many} nodes, {FEW_AGENTS} on {fewest}")
    pool.wait_for(FEW_AGENTS)

    pool.empty()
    pool.wait_for(0)
    until(lambda: not _nodes(cluster), "no node", KARPENTER_PATIENCE, every=1)


def _nodes(cluster: Cluster) -> list[Any]:
    found: list[Any] = cluster.core.list_node(label_selector=f"karpenter.sh/nodepool={NODE_POOL}").items
    return found


_NODE_CLASS: dict[str, Any] = {
    "apiVersion": "karpenter.kwok.sh/v1alpha1",
    "kind": "KWOKNodeClass",
    "metadata": {"name": NODE_POOL},
    "spec": {},
}


def _node_pool(cpus: int) -> dict[str, Any]:
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": NODE_POOL},
        "spec": {
            "limits": {"cpu": str(cpus)},
            "disruption": {
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": "1s",
                "budgets": [{"nodes": "100%"}],
            },
            "template": {
                "spec": {
                    "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": NODE_POOL},
                    "taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}],
                    "requirements": [
                        {
                            "key": "karpenter.kwok.sh/instance-cpu",
                            "operator": "In",
                            "values": [str(NODE_CPUS)],
                        },
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
                    ],
                }
            },
        },
    }
