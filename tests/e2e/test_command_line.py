"""The command line on a grid that runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from htcgrid import Grid
from htcgrid_local import LocalGrid
from tests.e2e.waiting import until
from tests.support.modes import open_to_others

pytestmark = pytest.mark.grid

Done = subprocess.CompletedProcess[str]


class Shell:
    """Runs `htcgrid` as a process of its own."""

    def __init__(self, profile: Path, home: Path) -> None:
        self._environment = {**os.environ, "HTCGRID_PROFILE": str(profile), "HTCGRID_HOME": str(home)}

    def run(self, *arguments: str, code: int = 0) -> Done:
        command = [sys.executable, "-c", "from htcgrid.cli import main; main()", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done


@pytest.fixture
def shell(local_grid: LocalGrid, tmp_path: Path) -> Shell:
    return Shell(local_grid.profile.save(tmp_path / "profile.json"), tmp_path / "home")


def lines(done: Done) -> list[object]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_is_submitted_and_its_results_written(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f'{{"value": {number}}}\n' for number in range(300)), encoding="utf-8")
    session_id = shell.run("submit", str(file), "--priority", "high").stdout.strip()
    assert lines(shell.run("results", session_id)) == [{"index": n, "result": n} for n in range(300)]
    assert "300 in" in shell.run("status", session_id).stdout
    assert session_id in shell.run("list").stdout
    assert len(lines(shell.run("tasks", session_id, "--state", "completed", "--limit", "0", "--json"))) == 300


def test_failures_are_shown_replayed_and_redriven(shell: Shell, grid: Grid, tmp_path: Path) -> None:
    tasks = '{"value": 1}\n{"do": "raise", "message": "no such curve"}\n'
    file = tmp_path / "tasks.jsonl"
    file.write_text(tasks, encoding="utf-8")
    followed = shell.run("submit", str(file), "--follow", "--max-retries", "0", "--chunk-size", "1", code=1)
    session_id = followed.stderr.split()[1]
    assert len(lines(followed)) == 2
    until(lambda: any(grid.attach(session_id).dead_letters()))
    assert "no such curve" in shell.run("errors", session_id).stdout
    assert "handler.py" in shell.run("errors", session_id, "--all").stdout
    assert "LookupError: no such curve" in shell.run("task", "show", session_id, "1").stdout
    event = tmp_path / "event.json"
    event.write_text('{"value": "mended"}', encoding="utf-8")
    shell.run("dlq", "redrive", session_id, "--task", "1", "--event", str(event))
    assert lines(shell.run("results", session_id))[1] == {"index": 1, "result": "mended"}


def test_a_session_is_cancelled(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    task = {"do": "sleep", "seconds": 600, "note": str(tmp_path / "started")}
    file.write_text(f"{json.dumps(task)}\n" * 5, encoding="utf-8")
    session_id = shell.run("submit", str(file), "--chunk-size", "1").stdout.strip()
    until((tmp_path / "started").exists)
    shell.run("pause", session_id)
    shell.run("cancel", session_id)
    until(lambda: "CANCELLED" in shell.run("status", session_id).stdout)


def test_everything_is_well(shell: Shell) -> None:
    assert "FAULT" not in shell.run("doctor").stdout


def test_a_program_of_the_first_grid_runs(local_grid: LocalGrid) -> None:
    from api.connector import AWSConnector

    profile = local_grid.profile
    assert profile.username
    assert profile.password is not None
    config = {
        "region": profile.region,
        "user_pool_id": local_grid.outputs["UserPoolId"],
        "cognito_userpool_client_id": profile.user_pool_client_id,
        "public_api_gateway_url": profile.api_url,
        "push_url": profile.push_url,
        "aws_endpoint_url": profile.aws_endpoint_url,
    }
    grid = AWSConnector()
    grid.init(config, username=profile.username, password=profile.password.get_secret_value())
    grid.authenticate()
    resp = grid.send([{"worker_arguments": ["1000", "1", "1"]}, {"worker_arguments": ["2000", "1", "1"]}])
    results = grid.get_results(resp, timeout_sec=100)
    assert results["finished"] == resp["task_ids"]
    assert results["metadata"] == {"tasks_in_response": 2}
    assert list(grid.cancel_sessions([resp["session_id"]])) == [resp["session_id"]]
    grid.close()


def test_everything_in_the_home_of_a_grid_is_its_owners_alone(local_grid: LocalGrid, grid: Grid) -> None:
    assert grid.submit([{"value": 1}]).results(timeout=60) == [1]
    assert open_to_others(local_grid.first_grid_configuration.parents[1]) == {}
