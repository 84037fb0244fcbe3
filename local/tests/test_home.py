from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from htcgrid_local.errors import GridRunningError
from htcgrid_local.home import Home, default_home

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
