"""Several submissions under one session id of the first HTC-Grid.

There a session took tasks for as long as somebody sent them. Here a session is closed when its tasks are submitted, so
that it has a verdict. Therefore each submission is a session of this grid, and its id follows from the user's id and
from the number of the submission: every program finds them again, and repeating a submission that broke off meets the
same one.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htcgrid.errors import GridError, InvalidOption, InvalidTask, SessionNotFound

if TYPE_CHECKING:
    from htcgrid.grid import Grid
    from htcgrid.options import JSON, SubmitOptions
    from htcgrid.session import Session

_NAMESPACE = uuid.UUID("5d4a3c1e-9b0f-5e57-8a53-0c1f6f0f3b8d")
"""Names the ids that follow from other ids. Changing it would hide all sessions that were submitted before."""


@dataclass(frozen=True)
class Submission:
    """One submission: a session of this grid, and its tasks by their numbers in the user's session."""

    grid_id: str
    tasks: range


class Submissions:
    """The submissions under one session id, in their order. Used by one thread at a time."""

    def __init__(self, grid: "Grid", session_id: str, *, new: bool = False) -> None:
        """`new` says that nobody else can know the id yet, which saves looking for earlier submissions."""
        self.session_id = session_id
        self._grid = grid
        self._known: list[Submission] = []
        self._current = new

    def submit(self, tasks: "Sequence[JSON]", options: "SubmitOptions") -> Submission:
        """Submit tasks, numbered after those that were submitted before. A submission that raised may be repeated.

        Raises: what `Grid.submit` raises.
        """
        if not self._current:
            self.all()
            self._current = True
        number, first = len(self._known), self._size
        try:
            session = self._grid.submit(tasks, session_id=grid_session_id(self.session_id, number), **options)
        except (InvalidTask, InvalidOption):
            raise  # nothing was sent
        except GridError as error:
            # What may be repeated meets the same session. What may not has perhaps left one behind: look again.
            self._current = error.retryable
            raise
        self._known.append(Submission(session.id, range(first, first + len(tasks))))
        return self._known[-1]

    def all(self) -> list[Submission]:
        """The submissions that the grid knows by now, also those of other programs; none for an unknown session."""
        while (session := self._attach(len(self._known))) is not None:
            tasks = session.status().account.submitted
            self._known.append(Submission(session.id, range(self._size, self._size + tasks)))
        return list(self._known)

    def covering(self, tasks: "set[int]") -> list[Submission]:
        """The submissions that hold these tasks, as far as the grid knows them."""
        known = self.all() if any(task >= self._size for task in tasks) else self._known
        return [submission for submission in known if not tasks.isdisjoint(submission.tasks)]

    @property
    def _size(self) -> int:
        return self._known[-1].tasks.stop if self._known else 0

    def _attach(self, number: int) -> "Session | None":
        try:
            return self._grid.attach(grid_session_id(self.session_id, number))
        except SessionNotFound:
            return None


def grid_session_id(session_id: str, submission: int = 0) -> str:
    """The id on this grid of a submission, by its number from 0: 32 hexadecimal digits.

    A UUID, with dashes or without, is the id of its first submission.
    """
    if submission == 0:
        try:
            return uuid.UUID(session_id).hex
        except ValueError:
            pass
    return uuid.uuid5(_NAMESPACE, f"{session_id}/{submission}").hex
