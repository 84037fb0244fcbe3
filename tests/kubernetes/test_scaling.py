"""KEDA and the autoscaler on queues and metrics, with simulated agents, and Karpenter, which gives these nodes."""

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


@pytest.fixture
def make_pool(cluster: Cluster, grid: KubernetesGrid, keda: Keda) -> Iterator[Callable[..., SimulatedPool]]:
    pools: list[SimulatedPool] = []

    def make(name: str, **node_labels: str) -> SimulatedPool:
        pool = SimulatedPool(cluster, grid, name)
        pools.append(pool)
        pool.install(**node_labels)
        return pool

    yield make
    for pool in pools:
        pool.uninstall()


def test_the_queues_alone_count_until_the_work_is_known_which_then_decides(
    kwok: Kwok, make_pool: Callable[..., SimulatedPool]
) -> None:
    kwok.add_node("roomy")
    pool = make_pool("by-work", type="kwok")
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
    until(lambda: not _nodes(cluster), "no node of the pool is left")


def test_two_thousand_chunks_get_two_hundred_agents_within_the_limits_of_their_nodes_and_give_them_back(
    cluster: Cluster,
    node_pool: Callable[[int], None],
    make_pool: Callable[..., SimulatedPool],
    report: Callable[[str], None],
) -> None:
    node_pool(6 * NODE_CPUS)
    pool = make_pool("on-karpenter", **{"karpenter.sh/nodepool": NODE_POOL})
    pool.know(chunks=100, seconds=6)
    pool.send(2_000)

    def full() -> bool:
        pool.publish()
        nodes = len(_nodes(cluster))
        return pool.wanted() == MAX_AGENTS and nodes >= 6 and pool.agents() >= nodes * (NODE_CPUS - 1)

    # Karpenter may overrun a limit by what it had begun ("NodePools", Karpenter), here by a node or two.
    until(full, "six nodes or a few more, full of agents", every=1)
    assert len(_nodes(cluster)) < MAX_AGENTS / NODE_CPUS
    assert pool.agents() < MAX_AGENTS == len(pool.pods())

    node_pool(1_000)
    pool.wait_for(MAX_AGENTS)
    many = len(_nodes(cluster))
    assert many >= MAX_AGENTS / NODE_CPUS

    # An interruption: the node goes, its agents are made anew elsewhere, and the pool is as large as before.
    lost = _nodes(cluster)[0].metadata.name
    cluster.core.delete_node(lost)
    until(lambda: lost not in {node.metadata.name for node in _nodes(cluster)}, f"{lost} is drained and gone", every=1)
    pool.wait_for(MAX_AGENTS)

    # A tenth of the chunks is left: the pool shrinks, and its agents move together on fewer nodes.
    pool.empty()
    pool.send(200)
    pool.wait_for(20)
    until(lambda: len(_nodes(cluster)) <= 3, "agents on few nodes", every=1)
    report(f"Karpenter: {MAX_AGENTS} agents on {many} nodes, 20 on {len(_nodes(cluster))}")
    pool.wait_for(20)

    pool.empty()
    pool.wait_for(0)
    until(lambda: not _nodes(cluster), "no node", every=1)


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
