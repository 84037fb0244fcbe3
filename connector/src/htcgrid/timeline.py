"""When each task of a session passed the stages of its way."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from htcgrid.results import TaskTimes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from htcgrid_events import PartialOutcome


class Timeline(Sequence[TaskTimes]):
    """The `TaskTimes` of the tasks that have finished, in the order of the tasks. Made by `Session.timeline`."""

    def __init__(self, session_id: str, outcomes: "Iterable[PartialOutcome]") -> None:
        self._session_id = session_id
        self._tasks = [
            TaskTimes(index, **outcome.stages.model_dump())
            for outcome in outcomes
            for index in range(outcome.first_task, outcome.first_task + outcome.size)
        ]

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._session_id

    @property
    def run_times(self) -> list[float]:
        """How long each task's chunk ran, in seconds, without those that were never run."""
        return [task.run_seconds for task in self._tasks if task.started_at and task.finished_at]

    @property
    def wait_times(self) -> list[float]:
        """How long each task's chunk waited from its submission to its last start, in seconds, likewise."""
        return [task.wait_seconds for task in self._tasks if task.started_at and task.submitted_at]

    def plot(self) -> Any:
        """Draw the waterfall of the tasks and the distribution of their run times.

        Returns:
            A `matplotlib.figure.Figure`, which a notebook shows and `savefig` writes.

        Raises:
            ImportError: matplotlib is missing; it comes with `pip install 'htcgrid[plot]'`.
        """
        from htcgrid._view.plot import plot

        return plot(self._session_id, self._tasks, self.run_times)

    @overload
    def __getitem__(self, index: int) -> TaskTimes: ...
    @overload
    def __getitem__(self, index: slice) -> list[TaskTimes]: ...
    def __getitem__(self, index: int | slice) -> TaskTimes | list[TaskTimes]:
        return self._tasks[index]

    def __len__(self) -> int:
        return len(self._tasks)

    def _repr_svg_(self) -> str:
        from htcgrid._view.waterfall import waterfall
        from htcgrid_events.views import counted

        return waterfall(f"session {self._session_id}: {counted(len(self), 'task')}", self._tasks)

    def __repr__(self) -> str:
        from htcgrid_events.views import counted

        return f"<Timeline of {counted(len(self), 'task')} of session {self._session_id}>"
