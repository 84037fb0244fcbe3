"""A whole local grid whose function is not in Python, and that loses what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from htcgrid import Grid, Profile
from htcgrid_local.emulator import client
from htcgrid_local.home import Home
from htcgrid_local.keys import Key
from htcgrid_local.state import read_state

pytestmark = [pytest.mark.grid, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples/runtimes"


def htcgrid(*arguments: str, code: int = 0) -> str:
    command = [str(Path(sys.executable).with_name("htcgrid")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def local(*arguments: str, code: int = 0) -> str:
    return htcgrid("local", *arguments, code=code)


def empty(home: Home) -> None:
    """Delete the user pool, as somebody with the root key may."""
    state = read_state(home.state)
    assert state is not None
    pools = client("cognito-idp", str(state.endpoint_url), Key.read(home.root_key))
    for pool in pools.list_user_pools(MaxResults=10)["UserPools"]:
        pools.delete_user_pool(UserPoolId=pool["Id"])


def test_a_grid_that_is_started_for_a_bash_function_runs_it_until_it_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTCGRID_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HTCGRID_PROFILE", raising=False)
    try:
        local("up", "--function", str(EXAMPLES / "bash"), "--runtime", "provided", "--workers", "2", "--detach")
        with Grid.connect(Profile.load("local")) as grid:
            assert grid.submit([[1, 2], [3], [-4, 5]]).results(timeout=60) == ["3 by bash", "3 by bash", "1 by bash"]
        empty(Home(tmp_path / "home"))
        assert "has lost the user pool UserPool" in local("status", code=1)
        assert "FAULT  sign-in" in htcgrid("doctor", code=1)
    finally:
        local("down")
