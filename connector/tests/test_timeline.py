"""When things happened, told and drawn."""

import builtins
from typing import Any

import pytest
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid, Timeline
from htcgrid_events import ChunkOutcome, Stages, new_id

DONE = Stages(
    submitted_at=1_000, queued_at=1_100, claimed_at=1_500, started_at=2_000, finished_at=4_500, notified_at=4_600
)


def outcome(chunk: int, size: int, stages: Stages) -> ChunkOutcome:
    return ChunkOutcome(chunk=chunk, first_task=2 * chunk, outcomes="C" * size, attempt=1, agent="a", stages=stages)


@pytest.fixture
def timeline() -> Timeline:
    """Two tasks of one chunk that have run, and one that was cancelled before."""
    return Timeline(new_id(), [outcome(0, 2, DONE), outcome(1, 1, Stages(submitted_at=1_000))])


def test_it_is_a_sequence_of_the_tasks_times(timeline: Timeline) -> None:
    assert len(timeline) == 3
    assert [task.index for task in timeline] == [0, 1, 2]
    assert [task.index for task in timeline[1:]] == [1, 2]
    assert (timeline[0].wait_seconds, timeline[0].run_seconds) == (1.0, 2.5)
    assert repr(timeline) == f"<Timeline of 3 tasks of session {timeline.session_id}>"


def test_what_never_ran_has_no_run_time(timeline: Timeline) -> None:
    assert timeline.run_times == [2.5, 2.5]
    assert timeline.wait_times == [1.0, 1.0]


def test_it_is_drawn_as_waterfall_and_distribution(timeline: Timeline) -> None:
    figure = timeline.plot()
    waterfall, distribution = figure.axes
    running = next(bars for bars in waterfall.containers if bars.get_label() == "running")
    assert [(bar.get_x(), bar.get_width()) for bar in running] == [(1.0, 2.5), (1.0, 2.5)]
    assert [bars.get_label() for bars in waterfall.containers] == [
        "submitting", "in the queue", "starting", "running", "reporting",
    ]  # fmt: skip
    assert sum(patch.get_height() for patch in distribution.patches) == 2


def test_an_empty_timeline_is_drawn_too(tmp_path: Any) -> None:
    Timeline(new_id(), []).plot().savefig(tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_without_matplotlib_the_extra_is_named(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def none(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(ImportError, match=r"drawing needs matplotlib: pip install 'htcgrid\[plot\]'"):
        timeline.plot()


def test_a_session_has_one(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(4), chunk_size=2)
    stub.run(session.id, lambda event: event, [1])
    assert [(task.index, task.finished_at) for task in session.timeline()] == [(2, 5), (3, 5)]
