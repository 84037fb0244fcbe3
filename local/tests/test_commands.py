"""The commands as a user runs them: processes, exit codes and what they print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from htcgrid_local import Project
from htcgrid_local.emulator import client, listen
from htcgrid_local.home import Home
from htcgrid_local.keys import Key
from htcgrid_local.state import Phase, State, read_state

pytestmark = pytest.mark.grid


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
        deadline = time.monotonic() + 60
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
    assert output == f"No grid runs in {shell.home.root}, and nothing is left of one.\n"


@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_a_missing_handler_is_one_sentence_and_no_process(shell: Shell, function: Path, extra: list[str]) -> None:
    code, _, errors = shell.run("up", "--function", str(function), "--handler", "nothing.here", *extra)

    assert code == 1
    assert errors.strip().startswith("Error: The function directory")
    assert errors.count("\n") == 1
    assert read_state(shell.home.state) is None


def test_a_detached_grid_lives_until_down(shell: Shell, function: Path) -> None:
    mine = shell.home.root / "profile.json"
    mine.parent.mkdir(parents=True)
    mine.write_text('{"api_url": "https://a.example.com"}')
    code, output, errors = shell.run("up", "--function", str(function), "--agents", "0", "--detach")
    assert code == 0, errors
    assert "The grid is ready" in output
    assert f"profile local ({shell.home.profile})" in output
    assert f"AGENT_CONFIG_FILE={shell.home.first_grid_configuration}\n" in output
    assert "choose it with `htcgrid config use local`" in output
    assert shell.home.profile.exists()
    assert shell.home.first_grid_configuration.exists()
    state = shell.state()

    code, output, _ = shell.run("status")
    assert code == 0
    assert "ready" in output

    for extra in ([], ["--detach"]):
        code, _, errors = shell.run("up", "--function", str(function), *extra)
        assert code == 1
        assert errors == (
            f"Error: A grid already runs in {shell.home.root} (process {state.supervisor.pid}): stop it with "
            "`htcgrid local down`, or set HTCGRID_HOME to another directory for a second one.\n"
        )

    code, output, _ = shell.run("logs", "deploy")
    assert code == 0
    assert "CREATE_COMPLETE" in output

    buckets = client("s3", str(state.endpoint_url), Key.read(shell.home.root_key))
    bucket = next(name for found in buckets.list_buckets()["Buckets"] if "artifacts" not in (name := found["Name"]))
    buckets.delete_bucket(Bucket=bucket)
    code, output, _ = shell.run("status")
    assert code == 1
    assert "emptied" in output
    assert "has lost the bucket Bucket: start anew with `htcgrid local down`" in output

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
    assert not shell.home.profile.exists()
    assert not shell.home.first_grid_configuration.exists()
    assert mine.read_text() == '{"api_url": "https://a.example.com"}'


@pytest.mark.parametrize("guarded", [True, False])
def test_down_clears_up_after_a_killed_supervisor(shell: Shell, function: Path, guarded: bool) -> None:
    process = shell.start("up", "--function", str(function))
    state = shell.wait_for(lambda state: bool(state.endpoint_url) and bool(state.children))
    (guard,) = (child for child in psutil.Process(process.pid).children() if "guard.py" in " ".join(child.cmdline()))
    if not guarded:
        guard.kill()
    process.kill()
    process.communicate()
    psutil.wait_procs([guard])

    code, output, _ = shell.run("status")
    assert code == 1
    assert "No grid runs" in output
    assert "`htcgrid local down` clears up after it" in output
    left = "none of its processes was left" if guarded else "ended what was left of it: emulator"
    code, output, _ = shell.run("down")
    assert code == 0
    assert output.startswith(f"No grid runs in {shell.home.root}: one had been killed; {left}")
    assert not shell.home.state.exists()
    assert not list(shell.home.scratch.iterdir())
    assert not [child for child in state.children if child.alive]
    assert shell.run("down")[1].endswith("nothing is left of one.\n")


def test_down_stops_a_grid_whose_state_is_lost(shell: Shell, function: Path) -> None:
    process = shell.start("up", "--function", str(function))
    state = shell.wait_for(lambda state: "deploy" in state.step)
    process.send_signal(signal.SIGSTOP)
    shell.home.state.unlink()
    down = shell.start("down")
    process.send_signal(signal.SIGCONT)

    output, _ = down.communicate(timeout=60)
    process.communicate(timeout=60)

    assert output == "The grid is down.\n"
    assert not [child for child in (state.supervisor, *state.children) if child.alive]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_leaves_nothing_behind(shell: Shell, function: Path, number: signal.Signals) -> None:
    process = shell.start("up", "--function", str(function))
    children = shell.wait_for(lambda state: "deploy" in state.step).children
    assert "emulator" in {child.name for child in children}

    process.send_signal(number)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert errors.strip() == "The start was interrupted; nothing is left running."
    assert not [child for child in children if child.alive]
    assert "No grid runs" in shell.run("status")[1]


def test_ctrl_c_ends_a_grid_that_is_starting_in_the_background(shell: Shell, function: Path) -> None:
    process = shell.start("up", "--function", str(function), "--detach")
    state = shell.wait_for(lambda state: "deploy" in state.step)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert not [child for child in (state.supervisor, *state.children) if child.alive]
    assert "No grid runs" in shell.run("status")[1]


def test_agents_get_the_settings_that_are_named(shell: Shell, function: Path) -> None:
    settings = ["--env", "HTCGRID_LEASE_SECONDS=7", "--env", 'HTCGRID_FUNCTION_ENVIRONMENT={"A": "b=c"}']
    code, output, errors = shell.run("up", "--function", str(function), *settings, "--detach")
    assert code == 0, output + errors
    (agent,) = (child for child in shell.state().children if child.name == "agent-0")

    environment = psutil.Process(agent.pid).environ()

    assert environment["HTCGRID_LEASE_SECONDS"] == "7"
    assert environment["HTCGRID_FUNCTION_ENVIRONMENT"] == '{"A": "b=c"}'
    assert "the agent is up" in shell.home.log("agent-0").read_text()
    shell.run("down")


@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_a_grid_whose_agent_ends_is_not_ready(shell: Shell, function: Path, extra: list[str]) -> None:
    code, output, errors = shell.run("up", "--function", str(function), "--env", "HTCGRID_LEASE_SECONDS=1", *extra)

    assert code == 1
    assert "ready" not in output
    assert errors.startswith("Error: agent-0 ended with exit code 2: The environment is not right: ")
    assert "HTCGRID_LEASE_SECONDS: " in errors
    assert errors.count("\n") == 1
    assert shell.state().phase is Phase.FAILED
    assert not shell.state().children


@pytest.mark.grid
def test_agents_run_the_function_as_it_was_until_it_is_reloaded(shell: Shell, tmp_path: Path) -> None:
    function = tmp_path / "function"
    function.mkdir()
    handler = function / "handler.py"
    handler.write_text("def handler(event, context):\n    return 1\n")
    code, output, errors = shell.run("up", "--function", str(function), "--detach")
    assert code == 0, output + errors
    first, agent = _version_and_agent(shell)
    assert shell.run("status")[1].count(f"version {first} of {function}") == 1

    handler.write_text("def handler(event, context):\n    return 2\n")
    assert "return 1" in _handler_of(agent).read_text()
    code, output, errors = shell.run("reload")
    assert code == 0, errors
    second, replaced = _version_and_agent(shell)
    assert output == f"The agents run version {second} of the function.\n"
    assert second != first
    assert not agent.is_running()
    assert "return 2" in _handler_of(replaced).read_text()
    assert replaced.environ()["HTCGRID_AGENT_ID"] == "agent-0-1"

    handler.write_text("raise ValueError('no luck \\x1b[31m')\n")
    code, _, errors = shell.run("reload")
    assert code == 1
    first_line, *trace, last_line = errors.splitlines()
    assert first_line == (
        "Error: The agents cannot run the function: the handler cannot be loaded: ValueError: no luck \\x1b[31m"
    )
    assert any("handler.py" in line for line in trace)
    assert last_line == f"(see {shell.home.log('handler')})"
    assert _version_and_agent(shell) == (second, replaced)
    shell.run("down")
    assert not list(shell.home.functions.iterdir())


def _version_and_agent(shell: Shell) -> tuple[str, psutil.Process]:
    state = shell.state()
    (agent,) = (child for child in state.children if child.name == "agent-0")
    return state.function_digest, psutil.Process(agent.pid)


def _handler_of(agent: psutil.Process) -> Path:
    return Path(agent.environ()["HTCGRID_FUNCTION_DIR"]) / "handler.py"


def test_without_a_grid_nothing_is_reloaded(shell: Shell) -> None:
    code, _, errors = shell.run("reload")
    assert code == 1
    assert errors == f"Error: No grid is ready in {shell.home.root}.\n"


@pytest.mark.grid
@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_a_grid_whose_handler_cannot_be_loaded_is_not_ready(shell: Shell, tmp_path: Path, extra: list[str]) -> None:
    (tmp_path / "handler.py").write_text("import no_such_module\n\ndef handler(event, context):\n    return event\n")
    code, output, errors = shell.run("up", "--function", str(tmp_path), *extra)

    assert code == 1
    assert "ready" not in output
    assert "the handler cannot be loaded: Runtime.ImportModuleError: Unable to import module 'handler'" in errors
    assert "No module named 'no_such_module'" in errors
    assert shell.state().phase is Phase.FAILED
    assert not shell.state().children


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--workers", "257"], "256"),
        (["--workers", "0"], "greater than or equal to 1"),
        (["--agents", "65"], "64"),
        (["--env", "LEASE=3"], "must have the form HTCGRID_NAME=VALUE"),
        (["--env", "HTCGRID_LEASE_SECONDS"], "must have the form HTCGRID_NAME=VALUE"),
        (["--env", "HTCGRID_LEASE=3"], "HTCGRID_LEASE_SECONDS"),
        (["--env", "HTCGRID_WORKERS=3"], "use --workers"),
        (["--env", "HTCGRID_AGENT_ID=me"], "the grid does"),
    ],
)
def test_options_out_of_bounds_start_nothing(shell: Shell, function: Path, options: list[str], complaint: str) -> None:
    code, _, errors = shell.run("up", "--function", str(function), *options)

    assert code != 0
    assert complaint in errors
    assert not shell.home.root.exists()


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["status"], ["down"], ["logs"]])
@pytest.mark.parametrize("place", ["", "below", "below/deep"])
def test_a_home_that_is_a_file_is_one_sentence(
    tmp_path: Path, project: Project, function: Path, command: list[str], place: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    options = ["--function", str(function)] if command[0] == "up" else []

    code, _, errors = Shell(file / place, project).run(*command, *options)

    assert code == 1
    assert errors.startswith(f"Error: The home {file / place} of a grid cannot be used ({file} is not a directory)")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_a_home_that_cannot_be_made_is_one_sentence(project: Project, function: Path, extra: list[str]) -> None:
    code, _, errors = Shell(Path("/proc/none/home"), project).run("up", "--function", str(function), *extra)

    assert code == 1
    assert errors.startswith("Error: The home /proc/none/home of a grid cannot be used (")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_a_store_that_there_is_not_is_named(shell: Shell, function: Path, extra: list[str]) -> None:
    code, _, errors = shell.run("up", "--function", str(function), "--store", "disk", *extra)

    assert code == 1
    assert errors == "Error: There is no store 'disk'; there are: s3, redis, s3+redis, filesystem.\n"


@pytest.mark.parametrize("store", ["redis", "s3+redis"])
@pytest.mark.parametrize("extra", [[], ["--detach"]])
def test_redis_that_is_not_installed_is_named_before_anything_is_started(
    tmp_path: Path, project: Project, function: Path, monkeypatch: pytest.MonkeyPatch, store: str, extra: list[str]
) -> None:
    monkeypatch.setenv("PATH", str(function))
    shell = Shell(tmp_path / "home", project)
    code, _, errors = shell.run("up", "--function", str(function), "--store", store, *extra)

    assert code == 1
    assert errors.count("\n") == 1
    assert "apt-get install redis-server" in errors
    assert not shell.home.state.exists()


def test_a_taken_port_is_named_with_no_step(shell: Shell, function: Path) -> None:
    with listen(None) as taken:
        port = taken.getsockname()[1]
        code, _, errors = shell.run("up", "--function", str(function), "--port", str(port))

    assert code == 1
    assert errors.startswith(f"Error: Port {port} ")
    output = shell.run("status")[1]
    assert f"Port {port} " in output
    assert "step" not in output


@pytest.mark.parametrize(
    ("command", "defaults"), [("up", ["the example's", "handler.handler", "a free one"]), ("logs", ["all"])]
)
def test_the_help_says_the_defaults(shell: Shell, command: str, defaults: list[str]) -> None:
    shown = " ".join(shell.run(command, "--help")[1].replace("│", " ").split())

    for default in defaults:
        assert re.search(rf"\[default: \(?{default}\)?\]", shown)
