"""The future of one task."""

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from htcgrid.session import Session


class TaskFuture(Future[Any]):
    """The outcome of one task, in time. Made by `Session.futures` and `Grid.submit_one`."""

    def __init__(self, session: "Session", index: int) -> None:
        super().__init__()
        self.session = session
        """The task's session, which is kept alive."""
        self.index = index
        """The task's number in its session."""
        self.set_running_or_notify_cancel()  # it lies on the grid, and cannot be taken back alone

    @property
    def task_id(self) -> str:
        """The task's id, as the grid's records name it."""
        return f"{self.session.id}_{self.index}"
