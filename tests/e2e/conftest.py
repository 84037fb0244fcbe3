"""One grid for all end-to-end tests: the real template on the embedded AWS, with IAM enforced."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from htcgrid import Grid
from htcgrid_local import LocalGrid
from htcgrid_local.progress import Silent

HERE = Path(__file__).parent
FUNCTION = HERE / "function"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the comparison of permissions out of a run that has not all end-to-end tests: it would miss their use."""
    files = {item.path for item in items if item.path.parent == HERE}
    chosen = config.option.keyword or config.option.markexpr or any("::" in argument for argument in config.args)
    if chosen or files != set(HERE.glob("test_*.py")):
        left = [item for item in items if item.path.name == "test_used_permissions.py"]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to which handlers write, too: as users of their own where the agents are root's."""
    folder = tmp_path_factory.mktemp("shared")
    folder.chmod(0o777)
    return folder


@pytest.fixture
def tmp_path(shared: Path) -> Path:
    """A folder for one test, in the one that is shared with handlers."""
    folder = Path(tempfile.mkdtemp(dir=shared))
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="session")
def local_grid(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[LocalGrid]:
    """A grid with two agents of two workers, and leases short enough to be lost within a test."""
    with LocalGrid(
        tmp_path_factory.mktemp("grid"),
        function=FUNCTION,
        agents=2,
        workers=2,
        environment={
            "HTCGRID_LEASE_SECONDS": "6",
            "HTCGRID_SHARED_DIRS": json.dumps([str(shared)]),
        },
        progress=Silent(),
    ) as grid:
        yield grid


@pytest.fixture(scope="session")
def grid(local_grid: LocalGrid) -> Iterator[Grid]:
    """The first user's connection."""
    with Grid.connect(local_grid.profile) as connection:
        yield connection


@pytest.fixture(scope="session")
def stranger(local_grid: LocalGrid) -> Iterator[Grid]:
    """Another tenant's connection."""
    with Grid.connect(local_grid.add_user("stranger")) as connection:
        yield connection
