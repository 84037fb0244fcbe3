"""Fixtures: the embedded AWS, started once per run for all packages, and moto for what needs no more."""

from collections.abc import Iterator, Mapping

import boto3
import botocore.loaders
import botocore.session
import pytest
from moto import mock_aws

from htcgrid_local.emulator import Emulator, root_environment
from htcgrid_local.home import Home
from htcgrid_local.processes import Processes
from htcgrid_local.project import find_project
from tests.second_opinion.servers import SERVICE_ENDPOINTS
from tests.support import quotas

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
}

_SERVICES = botocore.loaders.create_loader()
"""The descriptions of AWS' services, which take longer to read than most tests."""


@pytest.fixture(scope="session")
def embedded_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The embedded AWS, with nothing deployed in it."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.acquire()
    home.clear()
    processes = Processes(lambda _: None)
    try:
        emulator = Emulator(find_project(), home, processes, None)
        emulator.wait_until_ready()
        yield emulator
    finally:
        processes.close()
        home.release()


@pytest.fixture(scope="session")
def embedded_url(embedded_aws: Emulator) -> str:
    """The address of the embedded AWS."""
    return embedded_aws.endpoint_url


@pytest.fixture(scope="session")
def embedded_environment(embedded_aws: Emulator, service_endpoints: dict[str, str]) -> dict[str, str]:
    """The environment in which a program acts on the embedded AWS with its root key."""
    return root_environment(embedded_aws.endpoint_url, embedded_aws.key) | service_endpoints


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS within this process."""
    with mock_aws():
        point_at(_CREDENTIALS, monkeypatch)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", checked_session())
        yield


@pytest.fixture
def empty_dynamodb(
    request: pytest.FixtureRequest, service_endpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A DynamoDB without tables: moto's, or that of the second opinion where the run is one."""
    if not service_endpoints:
        request.getfixturevalue("moto")
        yield
        return
    point_at(_CREDENTIALS | service_endpoints, monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", checked_session())
    client = boto3.client("dynamodb")
    others = set(client.list_tables()["TableNames"])
    yield
    for table in set(client.list_tables()["TableNames"]) - others:
        client.delete_table(TableName=table)


def point_at(environment: Mapping[str, str], patch: pytest.MonkeyPatch) -> None:
    """Let this process use the AWS that `environment` describes, whatever the user's own settings are."""
    for name in ("AWS_ENDPOINT_URL", *SERVICE_ENDPOINTS, "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)


def checked_session() -> boto3.session.Session:
    """A session whose clients check the quotas of AWS on every request."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _SERVICES)
    session = boto3.session.Session(botocore_session=core)
    quotas.enforce(session)
    return session
