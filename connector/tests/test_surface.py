"""What `import htcgrid` brings and costs."""

import subprocess
import sys

import htcgrid

PUBLIC = """
    Account AsyncGrid AsyncSession Attempt AuthenticationFailed CancelledSessions ChunkRecord Completed DeadLetter
    EmptySession Grid GridClosed GridError GridExecutor GridInfo GridUnavailable GridUnreachable InvalidOption
    InvalidTask JSON Notifications NotificationsUnavailable OnExit Order PayloadTooLarge Priority Profile
    ProfileInvalid ProfileMissing Progress RequestRejected ResultsUnavailable Session SessionCancelled SessionClosed
    SessionNotFound SessionState SessionStatus SessionSummary SessionTimedOut SubmitOptions TaskFailed TaskFuture
    TaskNotFound TaskRecord TaskState TaskTimes Timeline UnexpectedAnswer WaitTimeout
"""
HEAVY = ("asyncio", "httpx", "pydantic", "websockets", "rich", "typer", "htcgrid_events")


def test_public_names_are_frozen() -> None:
    assert sorted(htcgrid.__all__) == sorted(PUBLIC.split())
    assert all(hasattr(htcgrid, name) for name in htcgrid.__all__)
    assert dir(htcgrid) == sorted(htcgrid.__all__)


def test_importing_loads_nothing_heavy() -> None:
    code = f"import sys; from htcgrid import Grid, GridError; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_says_whether_trying_again_helps() -> None:
    retryable = {"GridUnavailable", "GridUnreachable", "WaitTimeout"}
    errors = [value for name in htcgrid.__all__ if isinstance(value := getattr(htcgrid, name), type)]
    assert {error.__name__ for error in errors if issubclass(error, htcgrid.GridError) and error.retryable} == retryable
