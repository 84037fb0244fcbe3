"""A whole local grid whose function is not in Python."""

import subprocess
import sys
from pathlib import Path

import pytest

from htcgrid import Grid, Profile

pytestmark = [pytest.mark.grid, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples/runtimes"


def local(*arguments: str) -> None:
    command = [sys.executable, "-m", "htcgrid_local", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_grid_that_is_started_for_a_bash_function_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTCGRID_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HTCGRID_PROFILE", raising=False)
    try:
        local("up", "--function", str(EXAMPLES / "bash"), "--runtime", "provided", "--workers", "2", "--detach")
        with Grid.connect(Profile.load("local")) as grid:
            assert grid.submit([[1, 2], [3], [-4, 5]]).results(timeout=60) == ["3 by bash", "3 by bash", "1 by bash"]
    finally:
        local("down")
