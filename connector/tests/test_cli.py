"""The command line, run as users run it."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid
from htcgrid.cli import parameters
from htcgrid_events import VERSION, new_id


@pytest.fixture
def profile(stub: StubGrid, tmp_path: Path) -> Path:
    return stub.profile().save(tmp_path / "profile.json")


def htcgrid(*arguments: str, profile: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "HTCGRID_PROFILE": str(profile), "NO_COLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_sessions_status_is_printed(stub: StubGrid, grid: Grid, profile: Path) -> None:
    session = grid.submit(range(1000))
    stub.run(session.id, lambda event: event, [0])
    done = htcgrid("status", session.id, profile=profile)
    assert done.returncode == 0, done.stderr
    assert "state      RUNNING" in done.stdout
    assert "tasks      1,000 in 67 chunks" in done.stdout
    assert "completed  15" in done.stdout
    assert "open       985" in done.stdout


def test_a_sessions_status_is_json_for_programs(grid: Grid, profile: Path) -> None:
    session = grid.submit([1])
    done = htcgrid("status", "--json", session.id, profile=profile)
    assert json.loads(done.stdout)["account"]["submitted"] == 1


def test_a_session_is_cancelled(stub: StubGrid, grid: Grid, profile: Path) -> None:
    session = grid.submit([1])
    done = htcgrid("cancel", session.id, profile=profile)
    assert done.returncode == 0, done.stderr
    assert stub.sessions[session.id].cancelled


def test_an_error_of_the_grid_is_one_sentence_and_exit_code_1(profile: Path) -> None:
    done = htcgrid("status", new_id(), profile=profile)
    assert done.returncode == 1
    assert done.stderr.startswith("htcgrid: you have no session")
    assert done.stderr.count("\n") == 1


def test_a_missing_profile_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    done = htcgrid("status", new_id(), profile=tmp_path / "none.json")
    assert done.returncode == 1
    assert "htcgrid local up" in done.stderr


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_a_grid_that_is_down_is_told_soon(
    stub: StubGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert timedelta(0) < parameters.REQUEST_TIMEOUT < timedelta(minutes=1)
    monkeypatch.setattr(parameters, "REQUEST_TIMEOUT", timedelta(seconds=0.2))
    nowhere = "http://127.0.0.1:1/"
    profile = stub.profile(api_url=nowhere, aws_endpoint_url=nowhere).save(tmp_path / "profile.json")
    done = Shell(profile, tmp_path / "home").run(command, new_id())
    assert done.code == 1
    assert done.err.startswith(f"htcgrid: the grid cannot be reached at {nowhere}: ")
    assert done.err.endswith("start it with `htcgrid local up`\n")


@pytest.mark.parametrize("arguments", [["status"], ["no-such-command"], ["status", "--no-such-option", "x"]])
def test_wrong_usage_is_exit_code_2(profile: Path, arguments: list[str]) -> None:
    assert htcgrid(*arguments, profile=profile).returncode == 2


@pytest.mark.parametrize("spelling", ["version", "--version"])
def test_the_version_is_printed(profile: Path, spelling: str) -> None:
    done = htcgrid(spelling, profile=profile)
    assert (done.returncode, done.stdout) == (0, f"{VERSION}\n")
