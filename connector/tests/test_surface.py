"""What `import htcgrid` brings and costs."""

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from connector.tests.stub_grid import StubGrid

import htcgrid
import htcgrid_events
from htcgrid_events.views import counted

PUBLIC = """
    Account AsyncGrid AsyncSession Attempt AuthenticationFailed CancelledSessions ChunkRecord DataMissing
    DataNotFound DataRecord DeadLetter EmptySession FinishedTask Grid GridClosed GridError GridExecutor GridInfo
    GridUnavailable GridUnreachable InvalidData InvalidOption InvalidTask JSON Notifications
    NotificationsUnavailable OnExit Order PayloadTooLarge Priority Profile ProfileInvalid ProfileMissing Progress
    RequestRejected ResultsUnavailable Session SessionCancelled SessionClosed SessionNotFound SessionState
    SessionStatus SessionSummary SessionTimedOut SharedData SubmitOptions TaskFailed TaskFuture TaskNotFound
    TaskRecord TaskState TaskTimes Timeline UnexpectedAnswer WaitTimeout
"""
HEAVY = ("asyncio", "httpx", "pydantic", "websockets", "rich", "typer", "htcgrid_events")


def test_a_name_of_the_release_before_still_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="htcgrid.Completed is now htcgrid.FinishedTask"):
        assert htcgrid.Completed is htcgrid.FinishedTask


def test_public_names_are_frozen() -> None:
    assert sorted(htcgrid.__all__) == sorted(PUBLIC.split())
    assert all(hasattr(htcgrid, name) for name in htcgrid.__all__)
    assert dir(htcgrid) == sorted(htcgrid.__all__)


def test_importing_loads_nothing_heavy() -> None:
    code = f"import sys; from htcgrid import Grid, GridError; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_users_install_nothing_of_the_server() -> None:
    needed = [name for name in requires("htcgrid") or () if "extra ==" not in name]
    names = {re.split(r"[><=\s]", name)[0] for name in needed}
    assert names == {"htcgrid-dataplane", "htcgrid-events", "httpx", "pydantic", "rich", "typer", "websockets"}
    for package in ("htcgrid-dataplane", "htcgrid-events"):
        needed = [name for name in requires(package) or () if "extra ==" not in name]
        assert [re.split(r"[><=\s]", name)[0] for name in needed] == ["pydantic"]


def test_a_session_needs_nothing_of_the_server(tmp_path: Path) -> None:
    code = (
        "import sys; from htcgrid import Grid; grid = Grid.connect(); print(grid.submit([1]).results(timeout=60), "
        "[m for m in ('boto3', 'botocore', 'htcgrid_agent', 'htcgrid_controlplane', 'matplotlib') if m in sys.modules])"
    )
    with StubGrid(lambda event: event) as stub:
        environment = {**os.environ, "HTCGRID_PROFILE": str(stub.profile().save(tmp_path / "profile.json"))}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1] []"


def test_a_number_has_its_noun_from_one_helper() -> None:
    without_it = re.compile(r"\{[^{}]*\} (?:failed )?(?:tasks?|chunks?|letters?|cells?|attempts?)\b")
    folders = (Path(htcgrid.__file__).parent, Path(htcgrid_events.__file__).parent)
    found = [file.name for folder in folders for file in folder.rglob("*.py") if without_it.search(file.read_text())]
    assert found == []
    assert [counted(number, "task") for number in (0, 1, 1_000)] == ["0 tasks", "1 task", "1,000 tasks"]


def test_every_error_says_whether_trying_again_helps() -> None:
    retryable = {"GridUnavailable", "GridUnreachable", "WaitTimeout"}
    errors = [value for name in htcgrid.__all__ if isinstance(value := getattr(htcgrid, name), type)]
    assert {error.__name__ for error in errors if issubclass(error, htcgrid.GridError) and error.retryable} == retryable
