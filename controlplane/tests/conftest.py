from collections.abc import Iterator, Mapping

import boto3
import pytest
from controlplane.tests import quotas
from controlplane.tests.push_server import push_server
from controlplane.tests.world import World, build_world
from moto import mock_aws

from htcgrid_local.emulator import Emulator, root_environment
from htcgrid_local.home import Home
from htcgrid_local.processes import Processes
from htcgrid_local.project import find_project

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded AWS by itself, one for all tests: its address."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.acquire()
    home.clear()
    processes = Processes(lambda _: None)
    try:
        emulator = Emulator(find_project(), home, processes, None)
        emulator.wait_until_ready()
        yield emulator.endpoint_url
    finally:
        processes.close()
        home.release()


def _point_at(environment: Mapping[str, str], patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)


def _session() -> boto3.session.Session:
    session = boto3.session.Session()
    quotas.enforce(session)
    return session


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS within this process."""
    with mock_aws():
        _point_at(_CREDENTIALS, monkeypatch)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", _session())
        yield


@pytest.fixture(scope="session")
def shared_world(embedded_url: str) -> Iterator[tuple[World, boto3.session.Session]]:
    """One control plane on the embedded AWS for all tests, whose sessions have names of their own."""
    with pytest.MonkeyPatch.context() as patch, push_server() as server:
        _point_at(root_environment(embedded_url), patch)
        session = _session()
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        world = build_world(server)
        patch.undo()
        yield world, session


@pytest.fixture
def own_world(
    shared_world: tuple[World, boto3.session.Session], embedded_url: str, monkeypatch: pytest.MonkeyPatch
) -> World:
    """A control plane whose tables hold nothing of other tests."""
    world, session = shared_world
    _point_at(root_environment(embedded_url), monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    return build_world(world.push)


@pytest.fixture
def world(
    shared_world: tuple[World, boto3.session.Session], embedded_url: str, monkeypatch: pytest.MonkeyPatch
) -> World:
    """A control plane on the embedded AWS, with the clock at its start and nothing in the queues."""
    world, session = shared_world
    _point_at(root_environment(embedded_url), monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    world.start_anew()
    return world
