"""A whole grid whose payloads lie in S3 with Redis in front of it: whatever becomes of Redis, no task notices."""

import json
import os
import random
import shutil
import signal
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import redis

from htcgrid import Grid
from htcgrid_local import LocalGrid
from htcgrid_local.progress import Silent
from htcgrid_local.redis_server import NAME
from tests.e2e.conftest import FUNCTION

_NOISE = random.Random(1)
TEXTS = ["".join(_NOISE.choices(string.printable, k=400_000)) for _ in range(8)]
"""Too large for rows and messages, compressed as well."""


@pytest.fixture(scope="module")
def cached_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGrid]:
    if not shutil.which("redis-server") and os.environ.get("CI") != "true":
        pytest.skip("needs Debian's package redis-server")
    home = tmp_path_factory.mktemp("cached")
    with LocalGrid(home, function=FUNCTION, store="s3+redis", agents=1, workers=2, progress=Silent()) as grid:
        yield grid


@pytest.fixture
def client(cached_grid: LocalGrid) -> Iterator[Grid]:
    with Grid.connect(cached_grid.profile) as grid:
        yield grid


def settings(grid: LocalGrid) -> dict[str, str]:
    """What the agents are told of their store."""
    [agent] = grid.agents
    environment = psutil.Process(agent.pid).environ()
    assert environment["HTCGRID_STORE"] == "s3+redis"
    return dict(json.loads(environment["HTCGRID_STORE_SETTINGS"]))


def cache(grid: LocalGrid) -> redis.Redis:
    place = settings(grid)
    password = Path(place["password_file"]).read_text()
    return redis.Redis.from_url(place["url"], username=place["user"], password=password, ssl_ca_certs=place["ca_file"])


def run(client: Grid) -> list[str]:
    return client.submit([{"value": text} for text in TEXTS], chunk_size=1).results(timeout=120)


def test_payloads_lie_in_both(cached_grid: LocalGrid, client: Grid) -> None:
    assert run(client) == TEXTS
    bucket = cached_grid.outputs["DataBucket"]
    stored = {entry["Key"] for entry in cached_grid.client("s3").list_objects_v2(Bucket=bucket)["Contents"]}
    cached = {key.decode() for key in cache(cached_grid).scan_iter()}
    assert len(cached) == 2 * len(TEXTS)
    assert cached <= stored


def test_its_user_may_neither_flush_nor_configure(cached_grid: LocalGrid) -> None:
    for command in ("FLUSHALL", "CONFIG GET *", "KEYS *", "SHUTDOWN", "EVAL return 0"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            cast(Any, cache(cached_grid)).execute_command(*command.split())


def test_a_cache_that_is_emptied_or_killed_fails_nothing(cached_grid: LocalGrid, client: Grid) -> None:
    session = client.submit([{"value": text} for text in TEXTS], chunk_size=1)
    for key in cache(cached_grid).scan_iter():
        cache(cached_grid).delete(key)
    assert session.results(timeout=120) == TEXTS
    [server] = [child for child in psutil.Process().children(recursive=True) if NAME in child.name()]
    session = client.submit([{"value": text} for text in TEXTS], chunk_size=1)
    os.kill(server.pid, signal.SIGKILL)
    assert session.results(timeout=120) == TEXTS
    assert run(client) == TEXTS
    assert session.status().account.failed == 0
