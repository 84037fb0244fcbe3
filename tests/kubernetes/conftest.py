"""Fixtures: one cluster for the whole run, and on demand a real node, the grid, KEDA, KWOK and Karpenter."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from htcgrid_local.processes import Processes
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.grid import KubernetesGrid
from tests.kubernetes.keda import Keda
from tests.kubernetes.node import Node
from tests.kubernetes.places import inside
from tests.kubernetes.pool import Pool
from tests.kubernetes.simulated import Karpenter, Kwok

HERE = Path(__file__).parent
LIMIT = 1800
"""Seconds for a test, among them those in which its fixtures start. Only a hang takes so long."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests here, and leave them out where no cluster may be started."""
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        item.add_marker(pytest.mark.kubernetes)
        item.add_marker(pytest.mark.timeout(LIMIT))
    if not inside():
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)


_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Takes a line of figures, which depend on the machine and are not asserted, to be shown at the end of the run."""
    return pytestconfig.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures."""
    for figure in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(f"figures: {figure}")


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Starts the programs of the cluster, and ends what is left of them."""
    processes = Processes(lambda _: None)
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def cluster(processes: Processes) -> Iterator[Cluster]:
    """A Kubernetes without nodes."""
    cluster = Cluster(processes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def node(cluster: Cluster) -> Iterator[Node]:
    """A real node."""
    node = Node(cluster)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesGrid]:
    """The embedded AWS with the template deployed and IAM enforced, without agents."""
    with KubernetesGrid(tmp_path_factory.mktemp("grid")) as grid:
        yield grid


@pytest.fixture(scope="session")
def keda(cluster: Cluster, grid: KubernetesGrid) -> Iterator[Keda]:
    """KEDA, which may look at the grid's queues and metrics."""
    keda = Keda(cluster, grid.keda_environment)
    try:
        keda.start()
        yield keda
    finally:
        keda.stop()


@pytest.fixture(scope="session")
def pool(cluster: Cluster, node: Node, grid: KubernetesGrid, keda: Keda) -> Iterator[Pool]:
    """Agents on the real node, scaled by KEDA on the queues of the grid."""
    pool = Pool(cluster, node, grid)
    pool.install()
    yield pool
    pool.uninstall()


@pytest.fixture(scope="session")
def kwok(cluster: Cluster) -> Iterator[Kwok]:
    """Simulated nodes."""
    kwok = Kwok(cluster)
    try:
        kwok.start()
        yield kwok
    finally:
        kwok.stop()


@pytest.fixture(scope="session")
def karpenter(cluster: Cluster, kwok: Kwok) -> Iterator[Karpenter]:
    """Karpenter, which orders simulated nodes."""
    karpenter = Karpenter(cluster)
    try:
        karpenter.start()
        yield karpenter
    finally:
        karpenter.stop()
