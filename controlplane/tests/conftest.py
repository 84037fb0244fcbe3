from collections.abc import Iterator

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


def _point_at(environment: dict[str, str], patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    session = boto3.session.Session()
    quotas.enforce(session)
    patch.setattr(boto3, "DEFAULT_SESSION", session)


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS within this process."""
    with mock_aws():
        _point_at(_CREDENTIALS, monkeypatch)
        yield


@pytest.fixture
def world(embedded_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A control plane on the embedded AWS."""
    _point_at(root_environment(embedded_url), monkeypatch)
    with push_server() as server:
        yield build_world(server)
