"""Agents whose payloads lie in Redis, or have Redis before them, on real servers."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from agent.tests.embedded import until
from agent.tests.harness import TENANT, Place
from dataplane.tests.redis_server import Server, running, settings_of

from htcgrid_dataplane import PayloadMissing, result_key
from htcgrid_dataplane.redis import RedisStore
from htcgrid_local.certificates import make_certificate

BYTES = 40_000
"""Too many for a row."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "redis") as server:
        yield server


def test_a_checkpoint_is_not_put_into_the_cache_and_results_are(place: Place, server: Server) -> None:
    go = place.folder / "go"
    place.agent(store="s3+redis", store_settings=json.dumps(settings_of(server)), workers=1, lease_seconds=3)
    session = place.submit([{"do": "large", "bytes": BYTES}, {"do": "wait", "until": str(go)}])
    until(lambda: place.row(session).results.stored_bytes is not None)
    row = place.row(session)
    key = result_key(TENANT, session.session_id, 0, row.results_attempt)
    cache = RedisStore(server.client, timedelta(hours=1))
    assert row.results.stored_bytes is not None
    assert place.payloads.get(key, row.results.stored_bytes)
    with pytest.raises(PayloadMissing):
        cache.get(key, row.results.stored_bytes)
    go.touch()
    [outcome] = place.finished(session)
    assert outcome.stored_bytes is not None
    key = result_key(TENANT, session.session_id, 0, place.row(session).results_attempt)
    assert cache.get(key, outcome.stored_bytes) == place.payloads.get(key, outcome.stored_bytes)


def wrong_password(server: Server) -> None:
    (server.folder / "password").write_text("wrong")


def another_certificate(server: Server) -> None:
    make_certificate(server.certificate, server.folder / "other.key")


def eviction(server: Server) -> None:
    with server.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Server.kill, "Redis did not say how it is set up: "),
        (wrong_password, "Redis did not say how it is set up: it refuses the user or the password"),
        (another_certificate, "Redis did not say how it is set up: its certificate is not trusted"),
        (eviction, "Redis evicts payloads when its memory is full (maxmemory-policy allkeys-lru)"),
    ],
    ids=["down", "password", "certificate", "eviction"],
)
def test_an_agent_that_may_not_use_redis_says_why_and_ends(
    place: Place, server: Server, harm: object, said: str
) -> None:
    settings = settings_of(server, patience_seconds="0")
    assert callable(harm)
    harm(server)
    agent = place.agent(store="redis", store_settings=json.dumps(settings))
    assert agent.process.wait(120) == 2
    [line] = [line for line in agent.log.read_text().splitlines() if not line.startswith("{")]
    assert line.startswith(f"htcgrid-agent: {said}")


def test_an_agent_waits_for_redis_that_is_lost_in_the_middle_of_its_work(place: Place, server: Server) -> None:
    go = place.folder / "go"
    note = place.folder / "note"
    agent = place.agent(store="redis", store_settings=json.dumps(settings_of(server, patience_seconds="1")), workers=1)
    session = place.submit(
        [{"do": "wait", "note": str(note), "until": str(go)}, {"do": "large", "bytes": BYTES}], max_retries=0
    )
    until(note.exists)
    server.kill()
    go.touch()
    until(lambda: agent.said("the results could not be stored yet"))
    server.start()
    [outcome] = place.finished(session)
    assert outcome.outcomes == "CC"
    assert outcome.attempt == 1
    key = result_key(TENANT, session.session_id, 0, 1)
    assert outcome.stored_bytes is not None
    assert RedisStore(server.client, timedelta(hours=1)).get(key, outcome.stored_bytes)
