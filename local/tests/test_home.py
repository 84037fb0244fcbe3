from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.modes import open_to_others

from htcgrid_local.agents import agent_environment, write_credentials
from htcgrid_local.errors import GridRunningError, HomeError
from htcgrid_local.home import Home, default_home
from htcgrid_local.keys import Key
from htcgrid_local.processes import Processes
from htcgrid_local.state import Report

_HOLDER = """
import sys, time
from pathlib import Path
from htcgrid_local.home import Home
home = Home(Path(sys.argv[1]))
home.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the home."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_home_has_room_for_one_grid(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(GridRunningError, match=rf"already runs in {tmp_path} \(process {holder.pid}\)"):
        Home(tmp_path).acquire()


def test_a_killed_owner_gives_the_home_back(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()

    home = Home(tmp_path)
    home.acquire()
    home.release()


def test_a_released_home_can_be_taken_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.acquire()
    home.release()

    home.acquire()
    home.release()


def test_clearing_removes_logs_and_temporary_files_but_keeps_the_open_log(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.clear()
    for name in ("agent-7", "supervisor"):
        home.log(name).write_text("old")
    (home.scratch / "old").touch()

    home.clear()

    assert not home.log("agent-7").exists()
    assert home.log("supervisor").read_text() == ""
    assert not list(home.scratch.iterdir())


def test_the_home_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTCGRID_HOME", str(tmp_path))

    assert default_home() == tmp_path


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_what_a_grid_writes_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    home = Home(tmp_path / "home")
    previous = os.umask(umask)
    try:
        home.acquire()
        home.clear()
        Report(home.state)
        write_credentials(home.agent_credentials, "arn:aws:iam::000000000000:role/agents", Key.new())
        Key.new().write(home.root_key)
        processes = Processes(lambda _: None)
        processes.end(processes.start("true", ["true"], environment={"PATH": os.defpath}, log=home.log("true")))
        processes.close()
        home.release()
    finally:
        os.umask(previous)
    found = {path.relative_to(home.root).as_posix() for path in home.root.rglob("*")}
    assert {"local/agent.aws", "local/root.aws", "local/state.json", "local/lock", "local/logs/true.log"} <= found
    assert open_to_others(home.root) == {}


def test_what_an_earlier_release_left_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "local/logs").mkdir(parents=True)
    (tmp_path / "local").chmod(0o755)
    Home(tmp_path).make()
    assert (tmp_path / "local").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("folder", [".", "local"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_home_that_others_may_write_to_is_refused(tmp_path: Path, folder: str, mode: int) -> None:
    home = Home(tmp_path / "home")
    home.make()
    (home.root / folder).chmod(mode)
    with pytest.raises(HomeError, match=r"others may write to .*chmod go-w"):
        home.acquire()


def test_a_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HomeError, match="belongs to another user"):
        home.acquire()


def test_shared_data_goes_with_the_grid_although_it_is_read_only(tmp_path: Path) -> None:
    home = Home(tmp_path)
    item = home.shared_data / "files/item"
    item.mkdir(parents=True)
    (item / "curves").touch(mode=0o444)
    item.chmod(0o555)
    item.parent.chmod(0o311)
    home.clear_scratch()
    assert list(home.shared_data.iterdir()) == []
    assert home.shared_data.stat().st_mode & 0o777 == 0o700


def test_agents_hide_the_home_from_their_workers(tmp_path: Path) -> None:
    home = Home(tmp_path)
    outputs = dict.fromkeys(
        (
            *("TaskQueueHighUrl", "TaskQueueNormalUrl", "TaskQueueLowUrl"),
            *("ChunksTable", "TaskEventsQueueUrl", "DataBucket", "PartitionsTable"),
        ),
        "name",
    )
    environment = agent_environment(outputs, "http://localhost", home, handler="a.b", runtime="auto", workers=1)
    hidden = [Path(path) for path in json.loads(environment["HTCGRID_HIDDEN_PATHS"])]
    for secret in (home.root_key, home.agent_credentials, home.state, home.profile, home.first_grid_configuration):
        assert any(secret.is_relative_to(path) for path in hidden)
    # Agents run in this folder, so it is among those of Python modules, which workers see unless it is named.
    assert home.scratch in hidden
