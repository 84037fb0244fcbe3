"""A whole grid whose payloads lie in Redis alone: what its users see when Redis is full, flushed or fails over."""

import json
import random
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from dataplane.tests.redis_cluster import running_cluster
from dataplane.tests.redis_server import needed

from htcgrid import JSON, Grid, TaskFailed
from htcgrid_dataplane.redis_client import connect
from htcgrid_dataplane.store_settings import RedisSettings, read_settings
from htcgrid_events import FailureKind, SessionState
from htcgrid_local import LocalGrid, payload_store, redis_server
from htcgrid_local.progress import Silent
from tests.e2e.conftest import FUNCTION
from tests.e2e.waiting import until

pytestmark = [pytest.mark.grid, pytest.mark.timeout(600)]

_NOISE = random.Random(1)
_MEMORY_MB = 64
JUNK = 500_000


def texts(count: int, size: int) -> list[str]:
    """Too large for rows and messages together, compressed as well."""
    return ["".join(_NOISE.choices(string.printable, k=size)) for _ in range(count)]


@contextmanager
def redis_grid(home: Path, shared: Path) -> Iterator[LocalGrid]:
    needed()
    environment = {"HTCGRID_SHARED_DIRS": json.dumps([str(shared)])}
    with LocalGrid(
        home, function=FUNCTION, store="redis", agents=1, workers=2, environment=environment, progress=Silent()
    ) as grid:
        yield grid


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="module")
def local_grid(home: Path, shared: Path) -> Iterator[LocalGrid]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_server, "_memory_mb", lambda: _MEMORY_MB)
        with redis_grid(home, shared) as grid:
            yield grid


@pytest.fixture
def client(local_grid: LocalGrid) -> Iterator[Grid]:
    with Grid.connect(local_grid.profile) as grid:
        yield grid


@pytest.fixture
def server(local_grid: LocalGrid) -> Iterator[redis.Redis]:
    """What agents may do, this may do."""
    environment = psutil.Process(local_grid.agents[0].pid).environ()
    client = connect(read_settings(RedisSettings, json.loads(environment["HTCGRID_STORE_SETTINGS"])))
    assert isinstance(client, redis.Redis)
    yield client
    empty(client)


def empty(server: redis.Redis, pattern: str = "*") -> None:
    for key in server.scan_iter(pattern):
        server.unlink(key)


def fill(server: redis.Redis) -> None:
    """Leave no room for anything."""
    size = JUNK
    number = 0
    while size > 100:
        try:
            server.set(f"junk/{number}", bytes(size), ex=3600)
            number += 1
        except redis.exceptions.OutOfMemoryError:
            size //= 2


def agents_said(home: Path) -> bytes:
    return b"".join(log.read_bytes() for log in home.glob("**/agent-*.log"))


def test_payloads_pass_through_the_api_and_lie_in_redis_alone(
    local_grid: LocalGrid, client: Grid, server: redis.Redis
) -> None:
    values = texts(4, 400_000)
    assert client.submit([{"value": text} for text in values], chunk_size=1).results(timeout=300) == values
    assert server.dbsize() == 4 * 2 + 4  # an upload is a head and a part
    bucket = local_grid.outputs["DataBucket"]
    assert "Contents" not in local_grid.client("s3").list_objects_v2(Bucket=bucket)


def test_results_wait_while_redis_is_full(client: Grid, server: redis.Redis, tmp_path: Path, home: Path) -> None:
    values = texts(2, 300_000)
    go = tmp_path / "go"
    tasks: list[JSON] = [
        {"do": "wait", "note": str(tmp_path / str(number)), "until": str(go), "value": value}
        for number, value in enumerate(values)
    ]
    session = client.submit(tasks, chunk_size=1)
    until(lambda: all((tmp_path / str(number)).exists() for number in range(2)))
    fill(server)
    go.touch()
    until(lambda: b"its memory is full" in agents_said(home), seconds=300)
    assert session.status().state is SessionState.RUNNING
    empty(server, "junk/*")
    assert session.results(timeout=300) == values
    assert session.status().account.failed == 0


def test_what_was_in_redis_when_it_was_flushed_is_missing_and_may_be_submitted_again(
    local_grid: LocalGrid, client: Grid, server: redis.Redis
) -> None:
    values = texts(3, 300_000)
    tasks: list[JSON] = [{"value": text} for text in values]
    local_grid.stop_agents()
    session = client.submit(tasks, chunk_size=1, max_retries=0)
    empty(server)
    local_grid.start_agent()
    status = session.wait(timeout=300)
    assert (status.state, status.account.failed) == (SessionState.FAILED, len(values))
    for finished in session.as_completed(timeout=300):
        assert isinstance(finished.error, TaskFailed)
        assert finished.error.kind == FailureKind.INPUT
        assert f"no payload lies under {client.info().tenant}/{session.id}/inputs/" in finished.error.message
    # The same submission once more brings the inputs back, and nothing else.
    client.submit(tasks, chunk_size=1, max_retries=0, session_id=session.id)
    assert session.redrive() == len(values)
    assert client.attach(session.id).results(timeout=300) == values


def test_a_failover_while_1000_tasks_run_loses_none(
    tmp_path_factory: pytest.TempPathFactory, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed()
    folder = tmp_path_factory.mktemp("failover")
    with running_cluster(folder / "redis", replica=True) as cluster:
        first, second, *_ = cluster.nodes
        (folder / "password").write_text(first.password)
        settings = {
            "url": f"rediss://127.0.0.1:{second.port}", "cluster": "true", "user": first.user, "auth": "file",
            "password_file": str(folder / "password"), "ca_file": str(first.certificate),
        }  # fmt: skip
        monkeypatch.setattr(payload_store, "start_redis", lambda processes, home: settings)
        with redis_grid(folder / "grid", shared) as local, Grid.connect(local.profile) as client:
            values = texts(1000, 10_000)
            session = client.submit([{"value": text} for text in values], chunk_size=5)
            finished = session.as_completed(timeout=600)
            early = [next(finished) for _ in range(200)]
            first.kill()
            results = {task.index: task.result for task in [*early, *finished]}
            assert [results[index] for index in range(len(values))] == values
            account = session.wait(timeout=300).account
            assert (account.submitted, account.completed, account.failed) == (1000, 1000, 0)
        assert cluster.nodes[-1].admin().info("replication")["role"] == "master"
