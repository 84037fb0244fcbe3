"""A session as its user sees it."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from htcgrid._view.progress_bar import progress_of
from htcgrid.errors import GridClosed, GridError
from htcgrid.options import JSON, OnExit, Order, as_seconds, check_order
from htcgrid.progress import html_of
from htcgrid.results import FinishedTask

if TYPE_CHECKING:
    from htcgrid._core.connection import Connection
    from htcgrid._core.session_link import SessionLink
    from htcgrid.dead_letter_list import DeadLetters
    from htcgrid.futures import TaskFuture
    from htcgrid.progress import Progress
    from htcgrid.timeline import Timeline
    from htcgrid_events import ChunkRecord, SessionStatus, TaskRecord


class Session:
    """A vector of tasks on the grid. Made by `Grid.submit`, `Grid.open_session` and `Grid.attach`; safe to use from
    several threads.

    As a context manager it does on leaving the block what its `on_exit` says: see `OnExit`.

    Every method raises `GridClosed` after its grid was closed and in a forked process, and `GridUnreachable`,
    `GridUnavailable` or `AuthenticationFailed` when the grid cannot be asked; calls may then be repeated, and nothing
    is lost.
    """

    def __init__(self, connection: "Connection", link: "SessionLink", on_exit: OnExit) -> None:
        from htcgrid.async_session import AsyncSession

        self._connection = connection
        self._link = link
        self._core = AsyncSession(connection.client, link, on_exit)
        self._feeding = threading.Lock()

    @property
    def id(self) -> str:
        """32 hexadecimal digits, with which `Grid.attach` finds the session again, from anywhere."""
        return self._core.id

    @property
    def notifications(self) -> str:
        """How finished tasks become known now: `websocket` or `sns` by push, `poll` by asking the grid."""
        return self._core.notifications

    def add(self, tasks: Iterable[JSON], *, chunk_size: int | None = None) -> range:
        """Add tasks to a session of `Grid.open_session`. Returns when the grid has acknowledged them all.

        A list is checked as a whole before anything is sent. When anything else breaks off, the session is cancelled,
        or can be repeated, as the error says.

        Args:
            tasks: The tasks' events, in order; see `Grid.submit`.
            chunk_size: Tasks that are scheduled together, 1 to 1,000. Default: chosen by their number and size.

        Returns:
            The numbers of these tasks in the session.

        Raises:
            SessionClosed: the session takes no more tasks, or was not opened by this program.
            InvalidTask: a task is not JSON; says which.
        """
        from htcgrid._core.intake import Intake
        from htcgrid._submit.encoding import check_chunk_size
        from htcgrid._submit.tables import tasks_of

        check_chunk_size(chunk_size)
        tasks = tasks_of(tasks)
        self._connection.check_process()
        with self._feeding:
            feed = self._link.open_feed()
            first = feed.encoder.tasks
            batches = feed.encoder.encode(tasks, chunk_size) if isinstance(tasks, Sequence) else None
            intake = Intake(self._connection, feed)
            try:
                if batches is None:
                    intake.send_all(tasks, chunk_size)
                else:
                    intake.send_batches(batches)
                intake.flush()
            except BaseException as error:
                self._connection.run(intake.abandon(error, feed.abandon))
                raise
            return range(first, feed.encoder.tasks)

    def close(self) -> None:
        """Say that the session takes no more tasks, so that it will have a verdict. A second call does nothing, nor
        does that of a session that `Grid.submit` made, which is closed from the beginning.

        Raises:
            EmptySession: it has no task; it is cancelled.
        """
        self._connection.check_process()
        with self._feeding:
            self._connection.run(self._core.close())

    def results(
        self,
        *,
        order: Order = "submitted",
        return_exceptions: bool = False,
        progress: bool = False,
        timeout: timedelta | float | None = None,
    ) -> list[Any]:
        """The results of all tasks.

        Args:
            order: `submitted`, the order of the tasks, or `completed`, that in which they finished.
            return_exceptions: Give a failed or cancelled task's error in its place, instead of raising it.
            progress: Show a progress bar (plain lines where the output is no terminal).
            timeout: Longest wait, a `timedelta` or seconds. Default: for ever.

        Raises:
            TaskFailed: a task failed; the first one in this order, as soon as all before it have succeeded.
            SessionCancelled: a task was cancelled with its session.
            SessionTimedOut: a task was still open at the session's deadline.
            ResultsUnavailable: the grid no longer keeps a result.
            WaitTimeout: the timeout passed; the call may be repeated.
        """
        return list(
            self.iter_results(order=order, return_exceptions=return_exceptions, progress=progress, timeout=timeout)
        )

    def iter_results(
        self,
        *,
        order: Order = "submitted",
        return_exceptions: bool = False,
        progress: bool = False,
        timeout: timedelta | float | None = None,
    ) -> Iterator[Any]:
        """The results of all tasks, one by one as they can be had, in bounded memory. As `results` otherwise; the
        timeout is from the first result asked for to the last."""
        check_order(order)
        for task in self._tasks(timeout, progress=progress, in_order=order == "submitted"):
            yield task.error if return_exceptions and task.error is not None else task.get()

    def as_completed(
        self, timeout: timedelta | float | None = None, *, progress: bool = False
    ) -> Iterator[FinishedTask]:
        """Each task once, in the order in which they finish, as they finish. Failed tasks are yielded, not raised.

        Args:
            timeout: Longest time from the first task asked for to the last, a `timedelta` or seconds. Default: none.
            progress: Show a progress bar.

        Raises:
            WaitTimeout: the timeout passed. A new iteration begins from the start.
        """
        yield from self._tasks(timeout, progress=progress, in_order=False)

    def futures(self) -> "list[TaskFuture]":
        """A future for each task, in their order; of a session that is still open, for each added so far.

        They work with `concurrent.futures.wait` and `as_completed`, and with `asyncio.wrap_future`. A task that was
        submitted cannot be cancelled alone, so their `cancel()` returns False: cancel the session. Callbacks are called
        in a thread of the grid's.
        """
        from htcgrid._follow.delivery import Futures
        from htcgrid.futures import TaskFuture

        futures = [TaskFuture(self.id, index, self) for index in range(self._connection.run(self._link.size()))]
        sink = Futures({future.index: future for future in futures})
        self._connection.run(self._link.deliver(sink, self._connection.delivery.hand))
        return futures

    def wait(self, timeout: timedelta | float | None = None, *, progress: bool = False) -> "SessionStatus":
        """Wait for the session's verdict. Results are not fetched.

        Args:
            timeout: Longest wait, a `timedelta` or seconds. Default: for ever.
            progress: Show a progress bar.

        Raises:
            WaitTimeout: the timeout passed; the call may be repeated.
        """
        if self._connection.delivery.current:
            raise GridError("a callback cannot wait for a session, whose callbacks wait for it: do so elsewhere")
        return self._connection.run(self._core.wait(timeout, progress=progress))

    def status(self) -> "SessionStatus":
        """How the session stands."""
        return self._connection.run(self._core.status())

    def progress(self, *, by_state: bool = False) -> "Progress":
        """How far the session is: how many tasks have which outcome, how fast they finish, how long the rest takes.

        Args:
            by_state: Count as well how many tasks wait, run and are tried again, in `Progress.states`, which costs a
                request for every bucket of 128 chunks.
        """
        return self._connection.run(self._core.progress(by_state=by_state))

    def cancel(self) -> "SessionStatus":
        """Cancel the session's open tasks. Finished ones keep their results; running ones may still finish."""
        return self._connection.run(self._core.cancel())

    def pause(self) -> "SessionStatus":
        """Hold the session's queued tasks, until `resume()`. Running ones finish, and the deadline still counts.

        Raises:
            RequestRejected: the session has its verdict already.
        """
        return self._connection.run(self._core.pause())

    def resume(self) -> "SessionStatus":
        """Let a session go on that was held by `pause()`; one that was not goes on as it did.

        Raises:
            RequestRejected: the session has its verdict already.
        """
        return self._connection.run(self._core.resume())

    def chunks(self) -> "Iterator[ChunkRecord]":
        """The grid's records of the session's chunks as they are now, finished or not, in the order of their tasks.
        Read in pages, as they are asked for."""
        from htcgrid._follow.pages import chunk_pages

        return self._connection.iterate(chunk_pages(self._connection.client.api, self.id))

    def dead_letters(self) -> "DeadLetters":
        """The tasks that failed for good, those of one chunk together that failed alike, in the order of the chunks: a
        list, which a notebook shows as a table."""
        from htcgrid._follow.pages import dead_letter_pages
        from htcgrid.dead_letter_list import DeadLetters

        return DeadLetters(self._connection.iterate(dead_letter_pages(self._connection.client.api, self.id)))

    def redrive(
        self,
        *,
        fingerprint: str | None = None,
        tasks: "Iterable[SupportsIndex] | None" = None,
        events: Mapping[int, JSON] | None = None,
    ) -> int:
        """Run tasks again that failed for good. A session that has ended reopens until they are done.

        Args:
            fingerprint: Only those that failed in this way; see `DeadLetter.fingerprint`.
            tasks: Only these, by their numbers. Default: all, or those for which there are events.
            events: Events with which tasks (by their numbers) run instead of their own.

        Returns:
            How many tasks run again. Those that did not fail are passed over.

        Raises:
            InvalidTask: an event is not JSON. Nothing is run again.
            InvalidOption: the selection is malformed. Nothing is run again.
            RequestRejected: the session takes no more work, since it was cancelled or its time is over.
        """
        return self._connection.run(self._core.redrive(fingerprint=fingerprint, tasks=tasks, events=events))

    def purge(self, *, fingerprint: str | None = None, tasks: "Iterable[SupportsIndex] | None" = None) -> int:
        """Forget dead letters, so that they are no longer listed or redriven. Their tasks stay failed.

        Args:
            fingerprint: Only those that failed in this way.
            tasks: Only these, by their numbers. Default: all.

        Returns:
            How many tasks' letters were forgotten.

        Raises:
            InvalidOption: the selection is malformed. Nothing is forgotten.
        """
        return self._connection.run(self._core.purge(fingerprint=fingerprint, tasks=tasks))

    def task(self, index: SupportsIndex) -> "TaskRecord":
        """The grid's record of one task.

        Raises:
            TaskNotFound: the session has no task with this number.
            InvalidOption: what is given is no whole number.
        """
        return self._connection.run(self._core.task(index))

    def event(self, index: SupportsIndex) -> Any:
        """What a task was given, so that it can be run again elsewhere.

        Raises:
            TaskNotFound: the session has no task with this number.
            ResultsUnavailable: the grid no longer keeps it.
        """
        return self._connection.run(self._core.event(index))

    def timeline(self) -> "Timeline":
        """When each task that has finished so far passed the stages of its way, in the order of the tasks."""
        return self._connection.run(self._core.timeline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._connection.check_process()
            with self._feeding:
                self._connection.run(self._core.__aexit__(kind, error, trace))
        except GridClosed:
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"<Session {self.id}{self._link.collector.summary}>"

    def _repr_html_(self) -> str:
        try:
            return html_of(self.id, self.progress())
        except GridError:
            return html_of(self.id, None)

    def _tasks(self, timeout: timedelta | float | None, *, progress: bool, in_order: bool) -> Iterator[FinishedTask]:
        """Finished tasks. Decoded here, in the caller's thread, so that the loop stays free."""
        reading = self._link.reading(as_seconds(timeout), in_order=in_order)
        try:
            with progress_of(self._link.collector, shown=progress) as bar:
                while parts := self._connection.run(reading.next()):
                    for part in parts:
                        yield from part
                        bar.add(part)
        finally:
            self._connection.post(reading.stop)
