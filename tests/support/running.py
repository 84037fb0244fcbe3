"""Rules for all tests: which of them need a grid, which stay together on a worker, and no skip where CI=true."""

import os
import re
import signal
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

EMBEDDED = {"embedded", "embedded_aws", "embedded_url", "emulator", "step_functions", "local_grid"}
"""Fixtures that start an embedded AWS: tests that use one are marked `grid`."""

_UMASK = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Let the programs under test hear Ctrl-C: what a shell starts in the background ignores it, and so do its
    children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_UMASK] = oct(_umask())


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """See that no module of tests changed the umask when it was imported, which would open the files of all tests."""
    assert oct(_umask()) == session.config.stash[_UMASK], "a module of tests changes the umask when it is imported"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that need a grid."""
    for item in items:
        if isinstance(item, pytest.Function) and EMBEDDED.intersection(item.fixturenames):
            item.add_marker(pytest.mark.grid)


@pytest.fixture(autouse=True)
def _umask_stays() -> Iterator[None]:
    """See that a test leaves the umask as it was: files of tests after it would be open to others."""
    before = _umask()
    yield
    after = _umask()
    if after != before:
        os.umask(before)
    assert oct(after) == oct(before)


def _umask() -> int:
    # Without changing it, which other threads would see.
    status = Path("/proc/self/status")
    found = re.search(r"^Umask:\t(\d+)$", status.read_text(encoding="ascii"), re.MULTILINE) if status.exists() else None
    return int(found[1], 8) if found else 0


class Together(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types
    """Gives the workers of pytest-xdist whole files, for the sake of what a module's tests share.

    Tests of a whole grid, of whatever file, stay on one worker, so that they share the grid and no two run at once.
    Those of the agent, which share nothing but an embedded AWS, and those of commands, which share nothing, take long,
    so they are given out one by one.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(("tests/e2e/", "tests/chaos/")):
            return "whole grid"
        alone = nodeid.startswith(("agent/", "connector/tests/test_cli"))
        return nodeid if alone else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Spread the tests over the workers as `Together` says."""
    return Together(config, log)


def _skips_are_failures() -> bool:
    return os.environ.get("CI") == "true"


def _sentence(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return (
        f"{report.nodeid} was skipped ({reason.removeprefix('Skipped: ')}). "
        "Where CI=true every test must run: install what it needs."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was skipped where CI=true."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _skips_are_failures():
        report.longrepr = _sentence(report)
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that was skipped where CI=true."""
    report = yield
    if report.outcome == "skipped" and _skips_are_failures():
        report.longrepr = _sentence(report)
        report.outcome = "failed"
    return report
