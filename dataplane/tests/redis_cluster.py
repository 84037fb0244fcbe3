"""A real Redis cluster of a test's own: three primaries, TLS, and a replica of the first where wanted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from dataplane.tests.redis_server import ADMIN, Server, needed

SLOTS = 16_384
PRIMARIES = 3
NODE_TIMEOUT_MS = 2_000


@dataclass
class Cluster:
    """Its nodes share certificate and password. The replica, if there is one, comes last."""

    nodes: list[Server]

    @property
    def primaries(self) -> list[Server]:
        """As they were at first."""
        return self.nodes[:PRIMARIES]

    def client(self, password: str | None = None, certificate: Path | None = None) -> redis.RedisCluster:
        """A client that does not retry by itself. It knows all nodes, as AWS's configuration end point does."""
        first, node_of = self.nodes[0], cast(Any, redis.cluster.ClusterNode)
        return redis.RedisCluster(
            startup_nodes=[node_of("127.0.0.1", node.port) for node in self.nodes],
            username=first.user, password=password or first.password, ssl=True,
            ssl_ca_certs=str(certificate or first.certificate),
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), socket_timeout=5, socket_connect_timeout=2,
        )  # fmt: skip

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


@contextmanager
def running_cluster(folder: Path, replica: bool = False) -> Iterator[Cluster]:
    """A cluster, for as long as the block runs."""
    needed()
    settings: tuple[str, ...] = ("--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-replication", "yes")
    settings += (
        "--cluster-node-timeout",
        str(NODE_TIMEOUT_MS),
        "--masteruser",
        ADMIN,
        "--repl-diskless-sync-delay",
        "0",
    )
    first = Server(folder, name="0")
    nodes = [first] + [
        Server(folder, name=str(number), password=first.password) for number in range(1, PRIMARIES + replica)
    ]
    cluster = Cluster(nodes)
    try:
        for node in nodes:
            node.settings = (*settings, "--masterauth", first.password, "--cluster-port", str(node.bus_port))
            node.start()
        _join(cluster)
        yield cluster
    finally:
        cluster.kill()


def _join(cluster: Cluster) -> None:
    for number, node in enumerate(cluster.primaries):
        begin, end = SLOTS * number // PRIMARIES, SLOTS * (number + 1) // PRIMARIES
        _ask(node, "CLUSTER ADDSLOTSRANGE", begin, end - 1)
        # Nodes that take part in elections must not have the same epoch.
        _ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
    first = cluster.nodes[0]
    for node in cluster.nodes[1:]:
        _ask(node, "CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)
    _until_all(cluster, lambda node: _info(node)["cluster_known_nodes"] == str(len(cluster.nodes)))
    for node in cluster.nodes[PRIMARIES:]:
        _ask(node, "CLUSTER REPLICATE", _ask(first, "CLUSTER MYID"))
        while node.admin().info("replication").get("master_link_status") != "up":
            pass
    _until_all(cluster, lambda node: _info(node)["cluster_state"] == "ok")


def _until_all(cluster: Cluster, holds: Any) -> None:
    for node in cluster.nodes:
        while not holds(node):
            assert node.process is not None
            assert node.process.poll() is None, node.log.read_text()


def _info(node: Server) -> dict[str, str]:
    return dict(_ask(node, "CLUSTER INFO"))


def _ask(node: Server, command: str, *arguments: object) -> Any:
    with node.admin() as client:
        answer = client.execute_command(command, *arguments)
    return answer.decode() if isinstance(answer, bytes) else answer
