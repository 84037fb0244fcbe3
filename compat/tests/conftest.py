from collections.abc import Iterator

import pytest
from connector.tests.stub_grid import StubGrid


@pytest.fixture
def stub() -> Iterator[StubGrid]:
    """A grid that runs tasks only when it is told to."""
    with StubGrid() as stub:
        yield stub
