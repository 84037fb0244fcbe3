"""The commands as a user runs them: processes, exit codes and what they print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from htcgrid_local import Project
from htcgrid_local.home import Home
from htcgrid_local.state import Phase, State, read_state


class Shell:
    """Runs `htcgrid local` in a home and a project of its own."""

    def __init__(self, home: Path, project: Project) -> None:
        self.home = Home(home)
        self._environment = os.environ | {"HTCGRID_HOME": str(home), "HTCGRID_PROJECT": str(project.root)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "htcgrid_local", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def wait_for(self, condition: Callable[[State], bool]) -> State:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if (state := read_state(self.home.state)) and condition(state):
                return state
            time.sleep(0.05)
        pytest.fail("the grid did not come that far")

    def state(self) -> State:
        return self.wait_for(lambda state: True)


@pytest.fixture
def shell(tmp_path: Path, project: Project) -> Shell:
    return Shell(tmp_path / "home", project)


def test_without_a_grid_status_fails_and_down_succeeds(shell: Shell) -> None:
    code, output, _ = shell.run("status")
    assert code == 1
    assert "No grid runs" in output

    code, output, _ = shell.run("down")
    assert code == 0
    assert "No grid runs" in output


@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_a_missing_handler_is_one_sentence_and_no_process(shell: Shell, function: Path, extra: list[str]) -> None:
    code, _, errors = shell.run("up", "--function", str(function), "--handler", "nothing.here", *extra)

    assert code == 1
    assert errors.strip().startswith("Error: The function directory")
    assert errors.count("\n") == 1
    assert read_state(shell.home.state) is None


@pytest.mark.grid
def test_a_detached_grid_lives_until_down(shell: Shell, function: Path) -> None:
    code, output, errors = shell.run("up", "--function", str(function), "--agents", "0", "--detach")
    assert code == 0, errors
    assert "The grid is ready" in output
    state = shell.state()

    code, output, _ = shell.run("status")
    assert code == 0
    assert "ready" in output

    code, _, errors = shell.run("up", "--function", str(function), "--detach")
    assert code == 1
    assert "already runs" in errors

    code, output, _ = shell.run("logs", "deploy")
    assert code == 0
    assert "CREATE_COMPLETE" in output

    code, _, errors = shell.run("logs", "nonsense")
    assert code == 1
    assert "there are:" in errors

    code, output, _ = shell.run("down")
    assert code == 0
    assert "The grid is down" in output
    assert not [child for child in (state.supervisor, *state.children) if child.alive]
    assert not shell.home.state.exists()
    assert not list(shell.home.scratch.iterdir())
    assert shell.home.log("functions").exists()


@pytest.mark.grid
def test_down_clears_up_after_a_killed_supervisor(shell: Shell, function: Path) -> None:
    process = shell.start("up", "--function", str(function))
    state = shell.wait_for(lambda state: bool(state.endpoint_url))
    process.kill()
    process.communicate()

    code, output, _ = shell.run("status")
    assert code == 1
    assert "No grid runs" in output
    assert shell.run("down")[0] == 0
    assert not shell.home.state.exists()
    assert not list(shell.home.scratch.iterdir())
    assert not [child for child in state.children if child.alive]


@pytest.mark.grid
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_leaves_nothing_behind(shell: Shell, function: Path, number: signal.Signals) -> None:
    process = shell.start("up", "--function", str(function))
    children = shell.wait_for(lambda state: "deploy" in state.step).children
    assert "emulator" in {child.name for child in children}

    process.send_signal(number)
    output, errors = process.communicate(timeout=30)

    assert "The grid is down" in output, errors
    assert not [child for child in children if child.alive]
    assert shell.state().phase is Phase.FAILED
