"""The option `--second-opinion`: tests of queues and rows run on servers other than the embedded AWS."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.second_opinion.differences import DIFFERENCES, EMBEDDED, SECOND_OPINION, difference_of, tests_that_are_gone
from tests.second_opinion.selection import RULES, rule_of
from tests.second_opinion.servers import running_servers

_LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""How many tests each rule has left out."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the option."""
    parser.addoption(
        "--second-opinion", action="store_true", help="run the tests of queues and rows on ElasticMQ and Dynoxide"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Expect those tests to fail that a difference names; keep those that a second opinion is wanted of.

    Raises:
        UsageError: a difference names a test that does not exist.
    """
    if gone := tests_that_are_gone():
        raise pytest.UsageError(f"tests/second_opinion/differences.py names tests that do not exist: {', '.join(gone)}")
    second = config.getoption("--second-opinion")
    if second:
        _leave_out(config, items)
    for item in items:
        test = f"{item.nodeid.partition('::')[0]}::{getattr(item, 'originalname', item.name)}"
        if difference := difference_of(test, SECOND_OPINION if second else EMBEDDED):
            item.add_marker(pytest.mark.xfail(reason=f"{difference.name}: {difference.why}", strict=True))


def _leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    rules = [(item, rule_of(item) if isinstance(item, pytest.Function) else None) for item in items]
    config.stash[_LEFT_OUT] = dict(Counter(rule.name for _, rule in rules if rule))
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = config.stash[_LEFT_OUT]
    config.hook.pytest_deselected(items=[item for item, rule in rules if rule])
    items[:] = [item for item, rule in rules if not rule]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: pytest.Session) -> None:
    """Learn from a worker of pytest-xdist, which collects all tests, how many it has left out."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and where the second opinion differs from AWS."""
    if not config.getoption("--second-opinion"):
        return
    terminalreporter.section("second opinion: tests left out, by rule")
    left_out = config.stash.get(_LEFT_OUT, {})
    for rule in RULES:
        terminalreporter.write_line(f"{rule.name}: {left_out.get(rule.name, 0)} tests. {rule.why}")
    terminalreporter.section("second opinion: known differences from AWS")
    for difference in DIFFERENCES:
        if servers := SECOND_OPINION.intersection(difference.servers):
            terminalreporter.write_line(f"{difference.name} ({', '.join(sorted(servers))}): {difference.why}")
            terminalreporter.write_line(f"    {difference.adaptation}")


@pytest.fixture(scope="session")
def service_endpoints(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The variables that name where services are that this run does not ask of the embedded AWS."""
    if not request.config.getoption("--second-opinion"):
        yield {}
        return
    with running_servers(tmp_path_factory.mktemp("second-opinion")) as endpoints:
        yield endpoints
