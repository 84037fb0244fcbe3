"""The store in Redis, on a real server with TLS and a user of its own."""

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import redis
from dataplane.tests.redis_server import ADMIN, RIGHTS, USER, Server, needed, running

from htcgrid_dataplane import PayloadMissing, PayloadStore, StoreFull, StoreMisconfigured, StoreUnavailable, input_key
from htcgrid_dataplane.conformance import RelayConformance, RelayedStore, StoreConformance
from htcgrid_dataplane.redis import RedisStore
from htcgrid_dataplane.redis_calls import RedisCalls
from htcgrid_dataplane.redis_login import IamToken, SecretPassword
from htcgrid_local.certificates import make_certificate

KEY = "tenant/session/results/0.1"
KEEP = timedelta(days=1)
LARGE = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    client = server.client()
    yield client
    for key in client.scan_iter():
        client.delete(key)
    client.close()


@pytest.fixture
def store(client: redis.Redis) -> RedisStore:
    return RedisStore(lambda: client, KEEP)


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, client: redis.Redis) -> PayloadStore:
        return RedisStore(lambda: client, KEEP)


class TestRelayConformance(RelayConformance):
    @pytest.fixture
    def store(self, client: redis.Redis) -> RelayedStore:
        return RedisStore(lambda: client, KEEP)


@pytest.mark.parametrize("size", [1, LARGE])
def test_every_key_expires_and_no_value_is_large(store: RedisStore, client: redis.Redis, size: int) -> None:
    store.put(KEY, bytes(size))
    keys = list(client.scan_iter())
    assert len(keys) == (1 if size == 1 else 4)
    for key in keys:
        assert 0 < client.ttl(key) <= KEEP.total_seconds()
        assert client.strlen(key) <= 8 * 1024 * 1024


@pytest.mark.parametrize("size", [5, LARGE])
def test_what_is_replaced_leaves_nothing(store: RedisStore, client: redis.Redis, size: int) -> None:
    store.put(KEY, b"1" * size)
    before = client.dbsize()
    store.put(KEY, b"2" * size)
    assert store.get(KEY, size) == b"2" * size
    assert client.dbsize() == before


def test_parts_that_nobody_finishes_expire_within_an_hour(store: RedisStore, client: redis.Redis) -> None:
    upload = "a" * 32
    store.put_part(KEY, upload, 0, b"part")
    [key] = client.scan_iter()
    assert 0 < client.ttl(key) <= 3600
    assert store.finish(KEY, upload, 4)
    # One that comes once more and late does not let the payload end early.
    store.put_part(KEY, upload, 0, b"part")
    assert all(client.ttl(key) > KEEP.total_seconds() - 3600 for key in client.scan_iter())


def test_an_upload_that_came_too_late_leaves_nothing(store: RedisStore, client: redis.Redis) -> None:
    store.put(KEY, b"first")
    store.put_part(KEY, "a" * 32, 0, b"other")
    assert not store.finish(KEY, "a" * 32, 5)
    assert client.dbsize() == 1


def test_a_payload_of_which_a_part_is_gone_is_missing(store: RedisStore, client: redis.Redis) -> None:
    store.put(KEY, bytes(LARGE))
    client.delete(next(key for key in client.scan_iter() if key.endswith(b".1")))
    with pytest.raises(PayloadMissing, match=KEY):
        store.get(KEY, LARGE)


def test_a_server_that_evicts_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
        with pytest.raises(StoreMisconfigured, match=r"allkeys-lru.*set maxmemory-policy to noeviction") as refusal:
            RedisStore(server.client, KEEP).check()
        assert not refusal.value.retryable


def test_one_that_keeps_all_is_taken(store: RedisStore) -> None:
    store.check()


def test_a_full_server_is_told_apart_from_missing_data_and_it_passes(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory", "48mb") as server:
        client = server.client()
        store = RedisStore(lambda: client, KEEP)
        store.put(KEY, b"kept")
        store.put(f"{KEY}0", bytes(LARGE))
        with pytest.raises(StoreFull, match=r"did not take .* its memory is full") as refusal:
            store.put(f"{KEY}1", bytes(LARGE))
        assert refusal.value.retryable
        # What was written of it is removed again.
        assert client.dbsize() == 1 + 4
        assert store.get(KEY, 4) == b"kept"
        with pytest.raises(PayloadMissing):
            store.get(f"{KEY}1", LARGE)
        client.delete(*client.scan_iter())
        store.put(f"{KEY}1", bytes(LARGE))


def test_a_wrong_password_is_told_at_once(server: Server) -> None:
    store = RedisStore(lambda: server.client(password="wrong"), KEEP, sleep=never)
    with pytest.raises(StoreUnavailable, match="refuses the user or the password: invalid username-password"):
        store.check()


def never(seconds: float) -> None:
    raise AssertionError("what does not pass is not waited for")


def test_a_certificate_of_somebody_else_is_told_at_once(server: Server, tmp_path: Path) -> None:
    make_certificate(tmp_path / "other.pem", tmp_path / "other.key")
    store = RedisStore(lambda: server.client(certificate=tmp_path / "other.pem"), KEEP, sleep=never)
    with pytest.raises(StoreUnavailable, match=r"is not trusted \(self-signed certificate\); set ca_file to a file"):
        store.put(KEY, b"1")


def test_a_restart_is_ridden_out(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        store = RedisStore(server.client, KEEP)
        store.put(KEY, b"1")
        server.kill()
        back = threading.Timer(0.5, server.start)
        back.start()
        store.put(f"{KEY}0", b"2")
        back.join()
        assert store.get(f"{KEY}0", 1) == b"2"


def test_a_primary_that_has_become_a_replica_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replication = ("--tls-replication", "yes", "--masteruser", ADMIN, "--repl-diskless-sync-delay", "0")
    with running(tmp_path, *replication) as first:
        second = Server(tmp_path, (*replication, "--masterauth", first.password), "second", password=first.password)
        second.start()
        try:
            primary = first
            look_up = socket.getaddrinfo

            def resolve(host: str, port: int, *more: Any) -> Any:
                # The end point's name leads to whichever is the primary.
                return look_up(host, primary.port if port == first.port else port, *more)

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            with first.admin() as one, second.admin() as other:
                other.replicaof("127.0.0.1", first.port)
                while one.info("replication").get("slave0", {}).get("state") != "online":
                    pass
                store = RedisStore(first.client, KEEP)
                store.put(KEY, b"1")
                other.replicaof("NO", "ONE")
                one.config_set("masterauth", first.password)
                one.replicaof("127.0.0.1", second.port)
                primary = second
                # Its connection is still to the former primary.
                store.put(f"{KEY}0", b"2")
                assert other.exists(KEY, f"{KEY}0") == 2
        finally:
            second.kill()


def test_a_password_that_is_rotated_is_read_again(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        text = server.password

        def connect() -> redis.Redis:
            login = SecretPassword(USER, "redis", lambda secret: text, clock=lambda: 0.0)
            return server.client(login=login)

        store = RedisStore(connect, KEEP, sleep=never)
        store.put(KEY, b"1")
        text = "rotated"
        sign_in_with(server, text)
        store.put(KEY, b"2")
        assert store.get(KEY, 1) == b"2"


def test_a_connection_outlives_its_iam_token_and_the_next_one_has_a_new_token(tmp_path: Path) -> None:
    session = botocore.session.Session()
    session.set_config_variable("region", "eu-west-1")
    session.set_credentials("AKIAEXAMPLE", "secret", "token")
    now = 0.0
    login = IamToken(USER, "cache-1", False, session, clock=lambda: now)
    with running(tmp_path) as server:
        _, token = login.get_credentials()
        sign_in_with(server, token)
        store = RedisStore(lambda: server.client(login=login), KEEP)
        store.put(KEY, b"1")
        # The token ends, and the connection does not.
        now = 900
        credentials = session.get_credentials()
        assert credentials is not None
        credentials.access_key = "AKIAOTHER"
        _, renewed = login.get_credentials()
        assert renewed != token
        sign_in_with(server, renewed, disconnect=False)
        store.put(KEY, b"2")
        # AWS ends connections after twelve hours.
        with server.admin() as admin:
            assert admin.client_kill_filter(user=USER) == 1
        store.put(KEY, b"3")
        assert store.get(KEY, 1) == b"3"


def test_a_token_that_is_refused_is_told_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        store = RedisStore(server.client, KEEP, sleep=never)
        store.put(KEY, b"1")
        sign_in_with(server, "a newer token")
        with pytest.raises(StoreUnavailable, match="refuses the user or the password") as refusal:
            store.get(KEY, 1)
        # Somebody may grant it again.
        assert refusal.value.retryable
        sign_in_with(server, server.password)
        assert store.get(KEY, 1) == b"1"


def sign_in_with(server: Server, password: str, disconnect: bool = True) -> None:
    """Let the server know another password of its user, in place of the former."""
    with server.admin() as admin:
        admin.acl_setuser(USER, enabled=True, reset_passwords=True, passwords=[f"+{password}"])
        if disconnect:
            admin.client_kill_filter(user=USER)


def test_a_user_who_may_write_keys_of_one_tenant_needs_no_other(tmp_path: Path) -> None:
    server = Server(tmp_path, rights=RIGHTS.replace("~*", "~tenant/*"))
    needed()
    server.start()
    try:
        store = RedisStore(server.client, KEEP, sleep=never)
        store.check()
        for size in (1, LARGE):
            store.put(KEY, bytes(size))
            assert store.get(KEY, size) == bytes(size)
        store.put_part(input_key("tenant", "session", 0), "a" * 32, 0, b"part")
        assert store.finish(input_key("tenant", "session", 0), "a" * 32, 4)
        with pytest.raises(StoreUnavailable, match="its user lacks a right"):
            store.put("other/session/results/0.1", b"1")
    finally:
        server.kill()


def test_a_server_that_stays_away_is_unavailable_after_the_patience(tmp_path: Path) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with running(tmp_path) as server:
        store = RedisStore(server.client, KEEP, patience=timedelta(seconds=60), sleep=sleep, clock=lambda: now)
        server.kill()
        with pytest.raises(StoreUnavailable, match=f"did not give {KEY}") as refusal:
            store.get(KEY, 1)
        assert refusal.value.retryable
        assert 60 <= now < 62


def test_a_put_whose_answer_was_lost_may_be_repeated(server: Server, client: redis.Redis) -> None:
    class LosesAnswers(RedisCalls):
        lost = 0

        def tried(self, what: str, call: Any) -> Any:
            answer = super().tried(what, call)
            # The head is written, and its writer does not learn it.
            if answer is True and client.exists(KEY) and not self.lost:
                self.lost += 1
                raise StoreUnavailable("the answer was lost")
            return answer

    data = bytes(LARGE)
    store = RedisStore(lambda: client, KEEP)
    store._calls = LosesAnswers(lambda: client, timedelta(0))
    with pytest.raises(StoreUnavailable):
        store.put(KEY, data)
    store.put(KEY, data)
    assert store.get(KEY, LARGE) == data
