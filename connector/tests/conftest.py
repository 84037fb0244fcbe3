from collections.abc import Iterator
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid


@pytest.fixture
def stub() -> Iterator[StubGrid]:
    """A grid that runs tasks only when it is told to."""
    with StubGrid() as stub:
        yield stub


@pytest.fixture
def grid(stub: StubGrid) -> Iterator[Grid]:
    with Grid.connect(stub.profile(), request_timeout=60) as grid:
        yield grid


@pytest.fixture
def shell(stub: StubGrid, tmp_path: Path) -> Shell:
    """Runs commands on the stub grid."""
    return Shell(stub.profile().save(tmp_path / "profile.json"), tmp_path / "home")
