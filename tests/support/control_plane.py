"""Fixtures: a control plane on the embedded AWS, for the tests of the control plane and of the chunks."""

from collections.abc import Iterator

import boto3
import pytest

from tests.support.control_plane_harness import Harness, build_harness
from tests.support.embedded_aws import checked_session, point_at
from tests.support.push_server import push_server


@pytest.fixture(scope="session")
def shared_harness(
    embedded_environment: dict[str, str],
) -> Iterator[tuple[Harness, boto3.session.Session]]:
    """One control plane for all tests, whose sessions have ids of their own."""
    with pytest.MonkeyPatch.context() as patch, push_server() as server:
        point_at(embedded_environment, patch)
        session = checked_session()
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        harness = build_harness(server)
        patch.undo()
        yield harness, session


@pytest.fixture
def own_harness(
    shared_harness: tuple[Harness, boto3.session.Session],
    embedded_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Harness:
    """A control plane whose tables hold nothing of other tests."""
    harness, session = shared_harness
    point_at(embedded_environment, monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    return build_harness(harness.push)


@pytest.fixture
def harness(
    shared_harness: tuple[Harness, boto3.session.Session],
    embedded_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Harness:
    """The shared control plane, with the clock at its start and nothing in the queues."""
    harness, session = shared_harness
    point_at(embedded_environment, monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    harness.start_anew()
    return harness
