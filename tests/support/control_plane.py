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
def reachable_harness(
    shared_harness: tuple[Harness, boto3.session.Session],
    embedded_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Harness:
    """The shared control plane, with this process pointed at its AWS."""
    harness, session = shared_harness
    point_at(embedded_environment, monkeypatch)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    return harness


@pytest.fixture
def own_harness(reachable_harness: Harness) -> Harness:
    """A control plane whose tables hold nothing of other tests."""
    return build_harness(reachable_harness.push)


@pytest.fixture
def harness(reachable_harness: Harness) -> Harness:
    """The shared control plane, with the clock at its start and nothing in the queues."""
    reachable_harness.start_anew()
    return reachable_harness
