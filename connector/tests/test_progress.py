"""Progress in a terminal, a notebook and a log file."""

import io
import sys
import types
from dataclasses import replace

import pytest
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid
from htcgrid.progress import LineView, NotebookView, Snapshot, TerminalView

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
    session.results(progress=True, timeout=20)
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
