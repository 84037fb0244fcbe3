"""What `tests/support/running.py` does to all tests, tried on a few of them in a run of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TESTS = {
    "test_skipping.py": """
        import pytest
        def test_that_skips(): pytest.skip("no luck")
        @pytest.mark.skipif(True, reason="no curl")
        def test_that_lacks_something(): pass
        @pytest.mark.xfail
        def test_that_is_known_to_fail(): assert False
        def test_that_runs(): pass
    """,
    "test_importing.py": """
        import pytest
        pytest.importorskip("no_such_module")
    """,
    "test_marking.py": """
        import pytest
        @pytest.fixture(scope="session")
        def embedded(): pass
        def test_that_needs_a_grid(embedded): pass
        def test_that_needs_nothing(): pass
    """,
}


def run(folder: Path, *arguments: str, ci: str = "") -> str:
    shutil.copy(ROOT / "tests/support/running.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = grid: as in the repository\n")
    for name, text in TESTS.items():
        (folder / name).write_text("\n".join(line[8:] for line in text.splitlines()))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "xdist",
        "-p",
        "running",
        "-p",
        "no:cacheprovider",
        "-ra",
        *arguments,
    ]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def test_a_skip_is_a_skip_on_the_desk_and_a_failure_in_ci(tmp_path: Path) -> None:
    both = ("--continue-on-collection-errors", "test_skipping.py", "test_importing.py")
    assert "1 passed, 3 skipped, 1 xfailed" in run(tmp_path, *both)

    output = run(tmp_path, *both, ci="true")
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in output
    assert "test_that_lacks_something was skipped (no curl). Where CI=true every test must run" in output
    assert "test_importing.py was skipped (could not import" in output


def test_what_needs_a_grid_is_marked_(tmp_path: Path) -> None:
    assert "1 passed, 1 deselected" in run(tmp_path, "test_marking.py", "-m", "grid")


def test_a_whole_grid_has_one_worker_and_the_agents_tests_are_given_out_one_by_one(tmp_path: Path) -> None:
    for name in ("tests/e2e/test_one.py", "tests/e2e/test_two.py", "agent/tests/test_agent.py", "local/test_local.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def test_a(): pass\ndef test_b(): pass\n")

    output = run(tmp_path, "-v", "--import-mode=importlib", "--numprocesses", "4", "tests", "agent", "local")

    workers: dict[str, set[str]] = {}
    for worker, folder in re.findall(r"^\[(gw\d)\].* PASSED (\w+)/", output, re.MULTILINE):
        workers.setdefault(folder, set()).add(worker)
    assert {folder: len(them) for folder, them in workers.items()} == {"tests": 1, "agent": 2, "local": 1}
