"""The future of one task."""

from typing import Any

from htcgrid._aio.process import OwnFuture


class TaskFuture(OwnFuture):
    """The outcome of one task, in time. Made by `Session.futures` and `Grid.submit_one`."""

    def __init__(self, session_id: str, index: int, session: Any) -> None:
        super().__init__()
        self.session = session
        """The task's `Session`, which is kept alive."""
        self.index = index
        """The task's number in its session."""
        self._session_id = session_id
        self.set_running_or_notify_cancel()  # it lies on the grid, and cannot be taken back alone

    def __repr__(self) -> str:
        state = self._state.lower()
        error = self._exception if self._state == "FINISHED" else None
        return f"<TaskFuture {self.task_id} {f'failed: {type(error).__name__}' if error else state}>"

    @property
    def task_id(self) -> str:
        """The task's id, as the grid's records name it."""
        return f"{self._session_id}_{self.index}"
