"""Progress in a terminal, a notebook and a log file."""

import io
import sys
import types
from dataclasses import replace
from datetime import timedelta

import pytest
from connector.tests.stub_grid import Failing, StubGrid

from htcgrid import Grid, Progress, SessionStatus, TaskState
from htcgrid._view.progress_bar import LineView, NotebookView, Snapshot, TerminalView

HALF = Snapshot(session_id="0123456789abcdef", finished=1500, failed=3, total=3000, seconds=2.0)


def test_a_snapshot_is_a_line() -> None:
    assert str(HALF) == "session 01234567: 1,500 of 3,000 tasks (50%), 3 failed, 750/s, about 2 s left"
    assert str(replace(HALF, finished=3000)) == "session 01234567: 3,000 of 3,000 tasks (100%), 3 failed after 2.0 s"
    assert str(replace(HALF, total=None, failed=0)) == "session 01234567: 1,500 tasks, 750/s"
    assert str(replace(HALF, finished=0, failed=0, seconds=0.0)) == "session 01234567: 0 of 3,000 tasks (0%), 0/s"


def test_a_log_file_gets_a_line_now_and_then_and_one_at_the_end() -> None:
    out, now = io.StringIO(), 0.0
    view = LineView(out, clock=lambda: now)
    for second in range(25):
        now = float(second)
        view.show(replace(HALF, finished=second), last=False)
    view.show(replace(HALF, finished=3000), last=True)
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["10", "20", "3,000"]


def test_results_show_progress_on_standard_error(
    stub: StubGrid, grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    session = grid.submit(range(200))
    stub.run(session.id, lambda event: event)
    session.results(progress=True, timeout=60)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "200 of 200 tasks (100%) after" in captured.err


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    view = TerminalView()
    view.show(replace(HALF, total=None), last=False)
    view.show(HALF, last=True)
    assert "1500/3000" in terminal.getvalue()
    assert "3 failed" in terminal.getvalue()


def test_a_notebook_gets_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    display = types.ModuleType("IPython.display")
    handle = types.SimpleNamespace(update=shown.append)
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda _html, display_id: handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    now = 0.0
    view = NotebookView(clock=lambda: now)
    view.show(HALF, last=False)
    view.show(HALF, last=False)  # too soon to be drawn
    view.show(replace(HALF, finished=3000), last=True)
    assert len(shown) == 2
    assert '<progress value="1500" max="3000"></progress> session 01234567' in shown[0]


def test_waiting_shows_progress_without_fetching_results(
    stub: StubGrid, grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.inline = False
    session = grid.submit(range(200))
    stub.run(session.id, lambda event: event)
    session.wait(progress=True, timeout=60)
    assert "200 of 200 tasks (100%) after" in capsys.readouterr().err
    assert stub.count("GET /out/") == 0


def status(**changes: object) -> SessionStatus:
    values: dict[str, object] = {
        "session_id": "0" * 32,
        "state": "RUNNING",
        "options": {},
        "account": {"submitted": 100, "completed": 20, "failed": 4, "cancelled": 1},
        "chunks": 10,
        "created_at": 10_000,
        "deadline_at": 99_000,
    }
    return SessionStatus.model_validate(values | changes)


def test_progress_counts_and_reckons() -> None:
    progress = Progress.of(status(), clock=lambda: 20.0)
    assert (progress.submitted, progress.completed, progress.failed, progress.cancelled) == (100, 20, 4, 1)
    assert (progress.finished, progress.open, progress.seconds, progress.rate) == (25, 75, 10.0, 2.5)
    assert progress.eta == timedelta(seconds=30)
    assert str(progress).startswith("RUNNING: session 00000000: 25 of 100 tasks (25%), 4 failed, 2/s, about 30 s left")


def test_tasks_are_counted_by_state(stub: StubGrid, grid: Grid) -> None:
    def fail_on_three(event: object) -> object:
        if event == 3:
            raise Failing("three")
        return event

    session = grid.submit(range(300), chunk_size=2)
    stub.run(session.id, fail_on_three, [0, 1])
    assert session.progress().states is None
    assert session.progress(by_state=True).states == {
        TaskState.COMPLETED: 3,
        TaskState.FAILED: 1,
        TaskState.QUEUED: 296,
    }


def test_progress_of_an_ended_session_stands_still() -> None:
    assert Progress.of(status(state="FAILED", ended_at=15_000), clock=lambda: 1e9).seconds == 5.0


def test_there_is_no_estimate_before_the_first_task() -> None:
    fresh = Progress.of(status(account={"submitted": 5}), clock=lambda: 10.0)
    assert (fresh.rate, fresh.eta) == (0.0, None)


def test_a_session_shows_itself_in_a_notebook(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(3))
    stub.run(session.id, lambda event: event)
    session.wait(timeout=60)
    html = session._repr_html_()
    assert f"<code>{session.id}</code> COMPLETED" in html
    assert '<progress value="3" max="3" style="accent-color:#2e7d32">' in html
    assert "<td style='text-align:left'>completed</td><td style='text-align:left'>3</td>" in html
    assert html == session.progress()._repr_html_()


def test_a_session_of_a_closed_grid_still_shows_itself(stub: StubGrid) -> None:
    with Grid.connect(stub.profile()) as grid:
        session = grid.submit([1])
    assert session._repr_html_() == f"<b>session</b> <code>{session.id}</code>"
