"""The store in a Redis cluster: payloads spread over its nodes, and a failover loses none."""

import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dataplane.tests.redis_cluster import Cluster, running_cluster

from htcgrid_dataplane import PayloadStore, StoreFull, StoreMisconfigured, StoreUnavailable, redis_calls
from htcgrid_dataplane.conformance import RelayConformance, RelayedStore, StoreConformance
from htcgrid_dataplane.redis import RedisStore
from htcgrid_local.certificates import make_certificate

KEEP = timedelta(days=1)
KEY = "tenant/session/results/0.1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def emptied(cluster: Cluster) -> Iterator[None]:
    yield
    for node in cluster.primaries:
        node.admin().flushall()


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, cluster: Cluster) -> PayloadStore:
        return RedisStore(cluster.client, KEEP)


class TestRelayConformance(RelayConformance):
    @pytest.fixture
    def store(self, cluster: Cluster) -> RelayedStore:
        return RedisStore(cluster.client, KEEP)


def test_parts_of_a_large_payload_lie_on_several_nodes(cluster: Cluster) -> None:
    size = 200 * 1024 * 1024
    RedisStore(cluster.client, KEEP).put(KEY, bytes(size))
    assert sum(node.admin().dbsize() > 0 for node in cluster.primaries) > 1


def never(seconds: float) -> None:
    raise AssertionError("what does not pass is not waited for")


def test_a_wrong_password_and_a_certificate_of_somebody_else_are_told_at_once(cluster: Cluster, tmp_path: Path) -> None:
    store = RedisStore(lambda: cluster.client(password="wrong"), KEEP, sleep=never)
    with pytest.raises(StoreUnavailable, match="refuses the user or the password: invalid username-password"):
        store.check()
    make_certificate(tmp_path / "other.pem", tmp_path / "other.key")
    store = RedisStore(lambda: cluster.client(certificate=tmp_path / "other.pem"), KEEP, sleep=never)
    with pytest.raises(StoreUnavailable, match=r"is not trusted \(self-signed certificate\); set ca_file"):
        store.check()


def test_a_cluster_of_which_one_node_evicts_is_refused(cluster: Cluster) -> None:
    RedisStore(cluster.client, KEEP).check()
    with cluster.nodes[1].admin() as admin:
        admin.config_set("maxmemory-policy", "volatile-ttl")
        try:
            with pytest.raises(StoreMisconfigured, match="volatile-ttl"):
                RedisStore(cluster.client, KEEP).check()
        finally:
            admin.config_set("maxmemory-policy", "noeviction")


def test_a_full_node_is_told_apart_from_missing_data(cluster: Cluster) -> None:
    store = RedisStore(cluster.client, KEEP)
    for node in cluster.nodes:
        node.admin().config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreFull, match="its memory is full"):
            store.put(KEY, b"1")
    finally:
        for node in cluster.nodes:
            node.admin().config_set("maxmemory", "0")
    store.put(KEY, b"1")


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path / "replicated", replica=True) as cluster:
        yield cluster


def test_a_failover_among_1000_payloads_loses_none(replicated: Cluster) -> None:
    store = RedisStore(replicated.client, KEEP)
    payloads = {f"tenant/session/results/{number}.1": random.Random(number).randbytes(10_000) for number in range(1000)}
    some_are_written = threading.Semaphore(0)

    def write_and_read(key: str) -> bool:
        store.put(key, payloads[key])
        some_are_written.release()
        return store.get(key, len(payloads[key])) == payloads[key]

    with ThreadPoolExecutor(16) as pool:
        read = pool.map(write_and_read, payloads)
        for _ in range(300):
            some_are_written.acquire()
        replicated.nodes[0].kill()
        assert all(read)
        # Those of before the failover too.
        assert all(pool.map(lambda key: store.get(key, len(payloads[key])) == payloads[key], payloads))
    assert replicated.nodes[-1].admin().info("replication")["role"] == "master"


def test_what_only_a_lost_primary_had_does_not_count_as_put(
    replicated: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_calls, "_REPLICA_ANSWERS_WITHIN", timedelta(minutes=5))
    primary, replica = replicated.nodes[0], replicated.nodes[-1]
    client = replicated.client()
    [key, *_] = [key for key in (f"{KEY}{n}" for n in range(100)) if is_on(client, key, primary.port)]
    # More than the connection between the two holds.
    data = bytes(8_000_000)
    assert replica.process is not None
    replica.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(RedisStore(replicated.client, KEEP).put, key, data)
        while not (primary.admin().exists(key) or put.done()):
            pass
        primary.kill()
        replica.process.send_signal(signal.SIGCONT)
        put.result()
    assert RedisStore(replicated.client, KEEP).get(key, len(data)) == data


def is_on(client: Any, key: str, port: int) -> bool:
    return bool(client.get_node_from_key(key).port == port)
