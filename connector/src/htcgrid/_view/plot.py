"""A session's timeline drawn by matplotlib."""

from io import StringIO
from typing import TYPE_CHECKING, Any

from htcgrid._view.waterfall import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htcgrid.results import TaskTimes

_BINS = 50


def plot(session_id: str, tasks: "Sequence[TaskTimes]", run_times: "Sequence[float]") -> Any:
    """See `Timeline.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing needs matplotlib: pip install 'htcgrid[plot]'") from None

    class Drawing(Figure):
        """A figure that a notebook shows, also where matplotlib has not told it how."""

        def _repr_svg_(self) -> str:
            picture = StringIO()
            self.savefig(picture, format="svg")
            return picture.getvalue()

    figure = Drawing(figsize=(10, 8), layout="constrained")
    waterfall, distribution = figure.subplots(2, 1, height_ratios=(3, 1))
    _waterfall(waterfall, tasks)
    waterfall.set_title(f"session {session_id}")
    distribution.hist(run_times, bins=_BINS, color="#1e88e5")
    distribution.set_xlabel("run time of a task's chunk, s")
    distribution.set_ylabel("tasks")
    return figure


def _waterfall(axes: Any, tasks: "Sequence[TaskTimes]") -> None:
    began = min((task.submitted_at for task in tasks if task.submitted_at), default=0)
    for left, right, label, colour in STAGES:
        spans = [(t.index, getattr(t, left), getattr(t, right)) for t in tasks]
        passed = [(index, start, end) for index, start, end in spans if start and end]
        axes.barh(
            [index for index, _, _ in passed],
            [(end - start) / 1000 for _, start, end in passed],
            left=[(start - began) / 1000 for _, start, _ in passed],
            height=1.0,
            label=label,
            color=colour,
        )
    axes.set_xlabel("since the first submission, s")
    axes.set_ylabel("task")
    axes.invert_yaxis()
    axes.legend(loc="lower right")
