"""S3 behind Redis: whatever becomes of the cache costs time, and no payload."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
import redis
from dataplane.tests.redis_server import Server, free_port, running
from moto import mock_aws

from htcgrid_dataplane import PayloadStore, StoreUnavailable, input_key, result_key
from htcgrid_dataplane.conformance import StoreConformance
from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_dataplane.redis import RedisStore
from htcgrid_dataplane.s3 import S3Store
from htcgrid_dataplane.write_through import WriteThroughStore

KEY = input_key("tenant", "session", 0)
RESULTS = result_key("tenant", "session", 0, 1)
LARGE = 20 * 1024 * 1024


@pytest.fixture
def durable(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="payloads")
        yield S3Store(client, "payloads")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "redis") as server:
        yield server


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(durable: S3Store, server: Server, time: Time) -> WriteThroughStore:
    cache = RedisStore(server.client, timedelta(hours=1), patience=timedelta(0))
    return WriteThroughStore(durable, cache, timedelta(seconds=5), time)


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, server: Server, tmp_path: Path) -> PayloadStore:
        # In place of S3, since moto does not stand many threads.
        FilesystemStore.prepare(tmp_path / "durable")
        durable = FilesystemStore(tmp_path / "durable", patience=timedelta(0))
        return WriteThroughStore(durable, RedisStore(server.client, timedelta(hours=1), patience=timedelta(0)))


def test_what_was_put_is_in_both(store: WriteThroughStore, durable: S3Store, server: Server) -> None:
    store.put(KEY, b"data")
    assert durable.get(KEY, 4) == b"data"
    assert RedisStore(server.client, timedelta(hours=1)).get(KEY, 4) == b"data"


def test_what_the_durable_store_refuses_is_not_put(durable: S3Store, server: Server) -> None:
    class Down(S3Store):
        def put(self, key: str, data: bytes) -> None:
            raise StoreUnavailable("S3 did not take it")

    cache = RedisStore(server.client, timedelta(hours=1))
    with pytest.raises(StoreUnavailable):
        WriteThroughStore(Down(durable._client, "payloads"), cache).put(KEY, b"data")
    assert server.client().dbsize() == 0


@pytest.mark.parametrize("size", [4, LARGE])
def test_a_cache_that_is_flushed_costs_nothing(store: WriteThroughStore, server: Server, size: int) -> None:
    data = bytes(size)
    store.put(KEY, data)
    for key in server.client().scan_iter():
        server.client().delete(key)
    assert store.get(KEY, size) == data
    # It was filled again on the way.
    assert server.client().dbsize() > 0
    assert b"".join(store.stream(KEY, size)) == data


def test_a_payload_whose_later_parts_are_gone_is_read_on_from_the_durable_store(
    store: WriteThroughStore, server: Server
) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    store.put(KEY, data)
    for key in server.client().scan_iter("*.1"):
        server.client().delete(key)
    assert b"".join(store.stream(KEY, LARGE)) == data


@pytest.mark.parametrize("read_between", [True, False])
def test_nobody_is_given_a_checkpoint_in_place_of_results(durable: S3Store, server: Server, read_between: bool) -> None:
    def process() -> WriteThroughStore:
        return WriteThroughStore(durable, RedisStore(server.client, timedelta(hours=1), patience=timedelta(0)))

    cut_off = WriteThroughStore(durable, RedisStore(unreachable, timedelta(hours=1), patience=timedelta(0)))
    cut_off.durable.put(RESULTS, b"checkpoint")
    if read_between:
        assert process().get(RESULTS, 10) == b"checkpoint"
        assert b"".join(process().stream(RESULTS, 10)) == b"checkpoint"
    # Of the same size, and the cache does not learn of them.
    cut_off.put(RESULTS, b"the result")
    assert process().get(RESULTS, 10) == b"the result"


def unreachable() -> redis.Redis:
    return redis.Redis(port=free_port(), retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))


def test_results_are_read_from_the_cache(store: WriteThroughStore, durable: S3Store) -> None:
    store.put(RESULTS, b"results")
    durable._client.delete_object(Bucket="payloads", Key=RESULTS)
    assert store.get(RESULTS, 7) == b"results"


def test_a_cache_that_is_down_is_left_alone_for_a_while(store: WriteThroughStore, server: Server, time: Time) -> None:
    store.put(KEY, b"data")
    server.kill()
    assert store.get(KEY, 4) == b"data"
    server.start()
    store.put(f"{KEY}0", b"more")
    assert server.client().dbsize() == 0
    time.now += 5
    assert store.get(f"{KEY}0", 4) == b"more"
    assert server.client().dbsize() == 1


def test_a_cache_that_is_full_fails_nothing(durable: S3Store, tmp_path: Path) -> None:
    with running(tmp_path / "full", "--maxmemory", "4mb") as server:
        cache = RedisStore(server.client, timedelta(hours=1), patience=timedelta(0))
        store = WriteThroughStore(durable, cache)
        store.put(KEY, bytes(LARGE))
        assert store.get(KEY, LARGE) == bytes(LARGE)
