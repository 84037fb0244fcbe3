from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.tests.embedded import Embedded
from agent.tests.harness import Place, place_at

from htcgrid_local.emulator import Emulator


@pytest.fixture(scope="session")
def embedded(embedded_aws: Emulator, service_endpoints: dict[str, str]) -> Embedded:
    """The embedded AWS, one for all tests."""
    return Embedded(embedded_aws.endpoint_url, embedded_aws.key, service_endpoints)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    """Which runtime agents start, for tests that are parametrised with it."""
    return str(getattr(request, "param", "auto"))


@pytest.fixture
def place(embedded: Embedded, tmp_path: Path, runtime: str) -> Iterator[Place]:
    """Queues, a table and a bucket of the test's own. Agents that it starts end with it."""
    # Handlers write there too, as users of their own where the agents are root's.
    tmp_path.chmod(0o777)
    with place_at(embedded, tmp_path) as place:
        place.runtime = runtime
        yield place
