"""Whole grids with other payload stores than S3 alone.

With Redis in front of S3: whatever becomes of Redis, no task notices. With Redis alone, or a file system: clients
reach payloads through the API or directly, and do all that they do with S3.
"""

import json
import logging
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

from htcgrid import JSON, FinishedTask, Grid, Profile, RequestRejected
from htcgrid._transport.relay import Relay
from htcgrid_events import SessionState
from htcgrid_local import LocalGrid
from htcgrid_local.progress import Silent
from htcgrid_local.redis_server import NAME
from tests.e2e.conftest import FUNCTION
from tests.e2e.function.handler import noise
from tests.e2e.stored import Stored
from tests.e2e.test_command_line import Shell
from tests.e2e.waiting import until

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


def store(grid: LocalGrid) -> tuple[str, dict[str, str]]:
    """What the agents are told of their store: its name and its settings."""
    [agent] = grid.agents
    environment = psutil.Process(agent.pid).environ()
    return environment["HTCGRID_STORE"], json.loads(environment["HTCGRID_STORE_SETTINGS"])


def cache(grid: LocalGrid) -> redis.Redis:
    name, place = store(grid)
    assert name == "s3+redis"
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


# --- stores that no presigned URL reaches ---


SIZES = {"20 KB": (20_000,), "5 MB": (5_000_000,), "15 MB": (5_000_000,) * 3}
"""By the size of a chunk's payload, those of its tasks: a task has 6 MB at most, and a chunk of inputs 16."""


@pytest.fixture(scope="module", params=["redis", "filesystem"])
def relayed_grid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGrid]:
    if request.param == "redis" and not shutil.which("redis-server") and os.environ.get("CI") != "true":
        pytest.skip("needs Debian's package redis-server")
    home = tmp_path_factory.mktemp(request.param)
    with LocalGrid(home, function=FUNCTION, store=request.param, agents=1, workers=2, progress=Silent()) as grid:
        yield grid


@pytest.fixture
def outside(relayed_grid: LocalGrid) -> Iterator[Grid]:
    """A client that knows nothing of the store."""
    with Grid.connect(relayed_grid.profile) as grid:
        yield grid


def inside(relayed_grid: LocalGrid) -> Profile:
    """The profile of a client that reaches the store itself."""
    name, settings = store(relayed_grid)
    return relayed_grid.profile.model_copy(update={"stores": {name: settings}})


def in_bucket(grid: LocalGrid) -> int:
    found = grid.client("s3").list_objects_v2(Bucket=grid.outputs["DataBucket"])
    return int(found["KeyCount"])


@pytest.mark.parametrize("size", SIZES)
def test_payloads_of_any_size_go_and_come(relayed_grid: LocalGrid, outside: Grid, size: str) -> None:
    values = [noise(seed, part) for seed, part in enumerate(SIZES[size])]
    session = outside.submit([{"value": value} for value in values], chunk_size=len(values))
    assert session.results(timeout=300) == values
    assert [session.event(index) for index in range(len(values))] == [{"value": value} for value in values]
    attached = outside.attach(session.id)
    assert [finished.get() for finished in sorted(attached.as_completed(timeout=300), key=_index)] == values
    [row] = Stored(relayed_grid).rows(session.id)
    assert (row.inputs.store, row.results.store) == (store(relayed_grid)[0],) * 2
    assert in_bucket(relayed_grid) == 0


def large_results(client: Grid) -> None:
    """Of one chunk, in ranges or parts."""
    tasks: list[JSON] = [{"do": "noise", "seed": seed, "size": 5_000_000} for seed in range(5)]
    session = client.submit(tasks, chunk_size=5)
    assert session.results(timeout=300) == [noise(seed, 5_000_000) for seed in range(5)]
    assert len(list(session.chunks())) == 1


def test_more_than_20_mb_of_results_come(outside: Grid) -> None:
    large_results(outside)


def test_more_than_20_mb_of_results_come_from_s3_in_ranges(client: Grid, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "httpx"):
        large_results(client)
    assert sum("206 Partial Content" in record.getMessage() for record in caplog.records) >= 3


def test_a_submission_may_be_repeated(outside: Grid) -> None:
    tasks = [{"value": noise(1, 5_000_000)}]
    session = outside.submit(tasks, on_exit="keep")
    assert outside.submit(tasks, session_id=session.id).results(timeout=300) == [tasks[0]["value"]]
    with pytest.raises(RequestRejected, match="not changed"):
        outside.submit([{"value": noise(2, 5_000_000)}], session_id=session.id)


def test_dead_letters_beside_large_payloads_are_redriven(outside: Grid) -> None:
    value = noise(1, 5_000_000)
    tasks: list[JSON] = [{"value": value}, {"do": "raise", "message": "no curve"}]
    session = outside.submit(tasks, chunk_size=2, max_retries=0)
    assert session.wait(timeout=300).state is SessionState.FAILED
    until(lambda: list(session.dead_letters()) != [])
    assert [letter.tasks for letter in session.dead_letters()] == [(1,)]
    mended = noise(2, 1_000_000)
    assert session.redrive(events={1: {"value": mended}}) == 1
    assert outside.attach(session.id).results(timeout=300) == [value, mended]


def test_a_client_inside_reaches_the_store_itself(
    relayed_grid: LocalGrid, outside: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [noise(part, part) for part in SIZES["15 MB"]]
    with monkeypatch.context() as patched:
        patched.delattr(Relay, "put")
        patched.delattr(Relay, "get")
        with Grid.connect(inside(relayed_grid)) as grid:
            session = grid.submit([{"value": value} for value in values], chunk_size=len(values), on_exit="keep")
            assert session.results(timeout=300) == values
            assert session.event(2) == {"value": values[2]}
            grid.submit([{"value": value} for value in values], chunk_size=3, session_id=session.id)
    assert outside.attach(session.id).results(timeout=300) == values


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_the_doctor_tells_the_way_and_a_task_is_replayed_by_it(
    relayed_grid: LocalGrid, outside: Grid, tmp_path: Path, place: str
) -> None:
    profile = inside(relayed_grid) if place == "inside" else relayed_grid.profile
    shell = Shell(profile.save(tmp_path / "profile.json"), tmp_path / "home")
    said = shell.run("doctor").stdout
    assert "FAULT" not in said
    assert f"payloads: {'directly: ' if place == 'inside' else 'through the API, in parts of 4 MB'}" in said
    value = noise(1, 5_000_000)
    session = outside.submit([{"value": value}])
    session.wait(timeout=300)
    replayed = shell.run("task", "replay", session.id, "0", "--handler", "tests.e2e.function.handler.handler").stdout
    assert json.loads(replayed) == value


def _index(finished: FinishedTask) -> int:
    return finished.index
