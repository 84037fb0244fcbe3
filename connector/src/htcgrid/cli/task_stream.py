"""Tasks of a stream, such as a pipe, sent while the stream is still read: none waits long for others."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import chain, groupby
from typing import TYPE_CHECKING

from htcgrid._aio.bell import Bell
from htcgrid.cli.exits import BadInput
from htcgrid.errors import GridError, SessionNotFound

if TYPE_CHECKING:
    from htcgrid.grid import Grid
    from htcgrid.options import JSON
    from htcgrid.session import Session

LONGEST_WAIT = timedelta(milliseconds=250)
"""How long a task waits for others that travel with it."""

MOST_TASKS = 10_000
"""Tasks that are read ahead and travel together, at most."""

MOST_BYTES = 8 * 1024 * 1024
"""JSON text of the tasks that are read ahead, about, for the sake of memory."""


class TasksReadAhead:
    """The tasks of a stream in groups: what has come within `LONGEST_WAIT`, or while the former group was sent.

    A thread reads the stream, so that a source that gives nothing for a while holds back nothing. Only that thread
    waits for the condition: the one that iterates may be interrupted by a signal, and waits for the bell.
    """

    def __init__(self, tasks: "Iterable[tuple[JSON, int]]", clock: Callable[[], float] = time.monotonic) -> None:
        self._tasks = tasks
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = threading.Condition(self._lock)
        self._came = Bell()
        self._held: list[JSON] = []
        self._bytes = 0
        self._first_came_at = 0.0
        self._ended = False
        self._error: BaseException | None = None
        # A daemon, since a source may never end.
        threading.Thread(target=self._read, name="htcgrid tasks", daemon=True).start()

    def __iter__(self) -> "Iterator[list[JSON]]":
        """Raises what the source raises, when everything before was given."""
        while True:
            while not (self._held or self._ended):
                self._came.wait()
            full_at = self._first_came_at + LONGEST_WAIT.total_seconds()
            while not (self._ended or self._full) and (patience := full_at - self._clock()) > 0:
                self._came.wait(patience)
            with self._lock:
                group, self._held, self._bytes = self._held, [], 0
                error = self._error if self._ended else None
                self._taken.notify_all()
            if group:
                yield group
            if error is not None:
                raise error
            if not group:
                return

    def stop(self, error: BaseException) -> None:
        """Take no more from the source: whoever iterates is given this error."""
        with self._lock:
            self._error, self._ended = error, True
            self._taken.notify_all()
        self._came.ring()

    @property
    def _full(self) -> bool:
        return len(self._held) >= MOST_TASKS or self._bytes >= MOST_BYTES

    def _read(self) -> None:
        try:
            for task, size in self._tasks:
                with self._taken:
                    self._taken.wait_for(lambda: self._ended or not self._full)
                    if self._ended:
                        return
                    if not self._held:
                        self._first_came_at = self._clock()
                    self._held.append(task)
                    self._bytes += size
                self._came.ring()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who iterates is told
            self.stop(error)
        else:
            self._ended = True
            self._came.ring()


def feed(session: "Session", tasks: TasksReadAhead, chunk_size: int | None, known: Iterable[int] = ()) -> None:
    """Add the tasks to a session that is open, and close it.

    Args:
        session: Where to.
        tasks: The tasks, from the first.
        chunk_size: See `Session.add`.
        known: Sizes of the chunks that the grid has already, from the first: the tasks are cut into the same ones.

    Raises:
        GridError: what `Session.add` and `Session.close` raise, which also end the session or keep it.
        BadInput: what the stream raises; what was sent is cancelled, as with any other error.
    """
    try:
        groups = iter(tasks)
        rest = _add_known(session, groups, known)
        for group in chain([rest] if rest else [], groups):
            session.add(group, chunk_size=chunk_size)
        session.close()
    except GridError:
        raise
    except BaseException as error:
        session.cancel()
        if isinstance(error, BadInput):
            raise after_sending(error, session.id) from error
        raise


def after_sending(error: BadInput, session_id: str) -> BadInput:
    """An error in a stream of tasks of which some may have been sent, and were then cancelled."""
    return BadInput(f"{error}; what was already sent of session {session_id}, if anything, has been cancelled")


def _add_known(session: "Session", groups: "Iterator[list[JSON]]", known: Iterable[int]) -> "list[JSON]":
    """Add the tasks of known chunks, and give back what was drawn of the groups and is not among them."""
    held: list[JSON] = []
    for size, chunks in groupby(known):
        count = sum(1 for _ in chunks)
        while count:
            together = min(count, max(1, MOST_TASKS // size))
            count -= together
            while len(held) < together * size and (group := next(groups, None)) is not None:
                held += group
            if len(held) < together * size:
                raise BadInput("there are fewer tasks than before: a submission goes on with the same tasks")
            session.add(held[: together * size], chunk_size=size)
            del held[: together * size]
    return held


def known_chunks(grid: "Grid", session_id: str) -> list[int]:
    """The sizes of the chunks that the grid has of a session, from the first.

    Where it lacks some between others, which were on their way when the submission broke off, the tasks in between are
    spread over so many chunks.
    """
    try:
        chunks = list(grid.attach(session_id).chunks())
    except SessionNotFound:
        return []
    sizes: list[int] = []
    tasks = 0
    for chunk in chunks:
        lacking = chunk.chunk - len(sizes)
        for left in range(lacking, 0, -1):
            sizes.append((chunk.first_task - tasks) // left)
            tasks += sizes[-1]
        sizes.append(chunk.size)
        tasks += chunk.size
    return sizes


class Follower(threading.Thread):
    """Follows a session in a thread of its own, while its tasks are still sent."""

    def __init__(self, follow: Callable[[], int], on_failure: Callable[[BaseException], None]) -> None:
        super().__init__(name="htcgrid follower", daemon=True)
        self._follow = follow
        self._on_failure = on_failure
        self._code = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """See `threading.Thread.run`."""
        try:
            self._code = self._follow()
        except BaseException as error:  # noqa: BLE001 - raised again by `exit_code`
            self._error = error
            self._on_failure(error)

    def exit_code(self) -> int:
        """Wait for the session's end. Raises what following it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._code
