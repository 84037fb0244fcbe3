"""Results put back into the order of their tasks."""

from collections.abc import Iterable
from typing import Any

from htcgrid.errors import GridError
from htcgrid.results import Completed


class OrderedResults:
    """Gathers finished tasks, part by part, each part a run of consecutive tasks."""

    def __init__(self, *, return_exceptions: bool) -> None:
        self._return_exceptions = return_exceptions
        self._parts: dict[int, list[Any]] = {}
        self._sizes_ahead: dict[int, int] = {}
        self._next = 0
        self._first_error: Completed | None = None

    def add(self, part: Iterable[Completed]) -> None:
        """Add a part.

        Raises:
            GridError: the error of the first task that has one, as soon as everything before it is here.
        """
        tasks = list(part)
        if not tasks:
            return
        self._parts[tasks[0].index] = [task.result if task.error is None else task.error for task in tasks]
        if self._return_exceptions:
            return
        self._note_first_error(tasks)
        self._sizes_ahead[tasks[0].index] = len(tasks)
        while (size := self._sizes_ahead.pop(self._next, None)) is not None:
            self._next += size
        error = self._error_before(self._next)
        if error is not None:
            raise error

    def values(self) -> list[Any]:
        """All results, in the order of their tasks."""
        return [value for first in sorted(self._parts) for value in self._parts[first]]

    def _note_first_error(self, tasks: list[Completed]) -> None:
        if self._first_error is None or tasks[0].index < self._first_error.index:
            self._first_error = next((task for task in tasks if task.error is not None), self._first_error)

    def _error_before(self, index: int) -> GridError | None:
        if self._first_error is None or self._first_error.index >= index:
            return None
        return self._first_error.error
