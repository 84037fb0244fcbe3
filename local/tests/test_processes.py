"""No process outlives the supervisor, whichever way it goes. Real processes, each with a child of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from htcgrid_local.processes import Processes, kill_group, kill_leftovers
from htcgrid_local.state import ProcessId

_FAMILY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
_WAITING = _FAMILY + "time.sleep(600)"
_SUPERVISOR = """
import os, sys, time
from pathlib import Path
from htcgrid_local.processes import Processes
processes = Processes(lambda living: None)
family, log = sys.argv[1:]
child = processes.start("family", [sys.executable, "-c", family], environment=os.environ, log=Path(log))
print(child.identity.model_dump_json(), flush=True)
time.sleep(600)
"""


@dataclass
class Supervised:
    """A supervising process, its guard and the family that it started."""

    supervisor: subprocess.Popen[str]
    guard: int
    family: ProcessId


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, _WAITING, str(tmp_path / "family.log")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    family = ProcessId.model_validate_json(process.stdout.readline())
    (guard,) = (child.pid for child in psutil.Process(process.pid).children() if child.pid != family.pid)
    assert _until(lambda: len(_members(family.pid)) == 2)
    yield Supervised(process, guard, family)
    process.kill()
    process.wait()
    process.stdout.close()
    kill_group(family.pid)


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes(lambda living: None)
    yield processes
    processes.close()


def test_a_killed_supervisor_takes_its_processes_and_their_children_along(supervised: Supervised) -> None:
    supervised.supervisor.kill()

    assert _until(lambda: not _members(supervised.family.pid))


def test_what_a_killed_supervisor_and_guard_leave_is_killed_later(supervised: Supervised) -> None:
    psutil.Process(supervised.guard).kill()
    supervised.supervisor.kill()
    supervised.supervisor.wait()
    assert len(_members(supervised.family.pid)) == 2

    assert kill_leftovers([supervised.family]) == ["family"]

    assert _until(lambda: not _members(supervised.family.pid))


def test_children_are_killed_even_when_their_leader_is_gone(supervised: Supervised) -> None:
    psutil.Process(supervised.guard).kill()
    supervised.supervisor.kill()
    supervised.supervisor.wait()
    psutil.Process(supervised.family.pid).kill()
    assert _until(lambda: len(_members(supervised.family.pid)) == 1)

    assert kill_leftovers([supervised.family]) == ["family"]

    assert _until(lambda: not _members(supervised.family.pid))


def test_a_number_that_belongs_to_a_younger_process_is_left_alone(supervised: Supervised) -> None:
    earlier = supervised.family.model_copy(update={"began": supervised.family.began - 60})

    assert kill_leftovers([earlier]) == []

    assert len(_members(supervised.family.pid)) == 2


def test_ending_a_process_ends_its_children(processes: Processes, tmp_path: Path) -> None:
    child = _start(processes, tmp_path, _WAITING)
    assert _until(lambda: len(_members(child)) == 2)

    processes.close()

    assert _until(lambda: not _members(child))


def test_a_process_that_ends_in_time_is_not_killed(processes: Processes, tmp_path: Path) -> None:
    child = processes.start(
        "brief", [sys.executable, "-c", "raise SystemExit(3)"], environment=os.environ, log=tmp_path / "log"
    )

    assert processes.end(child, timedelta(seconds=10)) == 3


def test_a_process_that_takes_too_long_is_killed(processes: Processes, tmp_path: Path) -> None:
    child = processes.start("slow", ["sleep", "600"], environment=os.environ, log=tmp_path / "log")

    assert processes.end(child, timedelta(seconds=0.1)) == -9


def test_living_processes_are_reported(tmp_path: Path) -> None:
    reports: list[list[str]] = []
    processes = Processes(lambda living: reports.append([child.name for child in living]))
    first = processes.start("first", ["sleep", "600"], environment=os.environ, log=tmp_path / "log")
    processes.start("second", ["sleep", "600"], environment=os.environ, log=tmp_path / "log")
    processes.end(first)
    processes.close()

    assert reports == [["first"], ["first", "second"], ["second"], []]


def _start(processes: Processes, folder: Path, code: str) -> int:
    child = processes.start("family", [sys.executable, "-c", code], environment=os.environ, log=folder / "log")
    return child.identity.pid


def _members(group: int) -> set[int]:
    """The processes of a group that still run."""
    members = set()
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.add(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def _until(condition: Callable[[], bool]) -> bool:
    """Does `condition` become true within a minute?"""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
