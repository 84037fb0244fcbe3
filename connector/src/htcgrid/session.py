"""A session as its user sees it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, SupportsIndex

from htcgrid._ordered import OrderedResults
from htcgrid.errors import TaskNotFound
from htcgrid.options import JSON, as_seconds, task_number
from htcgrid.progress import progress_of
from htcgrid.results import Arrival, Completed, Lost, TaskTimes, opened

if TYPE_CHECKING:
    from htcgrid._client import SessionLink
    from htcgrid._connection import Connection
    from htcgrid._stream import ResultStream
    from htcgrid_events import ChunkRecord, DeadLetter, SessionState, SessionStatus, TaskRecord


class Session:
    """A vector of tasks on the grid. Made by `Grid.submit` and `Grid.attach`; safe to use from several threads.

    Every method raises `GridClosed` after its grid was closed, and `GridUnreachable`, `GridUnavailable` or
    `AuthenticationFailed` when the grid cannot be asked; calls may then be repeated, and nothing is lost.
    """

    def __init__(self, connection: "Connection", link: "SessionLink") -> None:
        self._connection = connection
        self._client = connection.client
        self._link = link

    @property
    def id(self) -> str:
        """32 hexadecimal digits, with which `Grid.attach` finds the session again, from anywhere."""
        return self._link.session_id

    @property
    def notifications(self) -> str:
        """How finished tasks become known now: `websocket` when the grid pushes, `poll` when it is asked."""
        return "websocket" if self._client.push.connected else "poll"

    def results(
        self,
        *,
        progress: bool = False,
        timeout: timedelta | float | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """The results of all tasks, in the order of the tasks.

        Args:
            progress: Show a progress bar (plain lines where the output is no terminal).
            timeout: Longest wait, a `timedelta` or seconds. Default: for ever.
            return_exceptions: Give a failed or cancelled task's error in its place, instead of raising it.

        Raises:
            TaskFailed: a task failed; the first one, as soon as all before it have succeeded.
            SessionCancelled: a task was cancelled with its session.
            SessionTimedOut: a task was still open at the session's deadline.
            ResultsUnavailable: the grid no longer keeps a result.
            WaitTimeout: the timeout passed; the call may be repeated.
        """
        ordered = OrderedResults(return_exceptions=return_exceptions)
        for part in self._parts(timeout, progress=progress):
            ordered.add(part)
        return ordered.values()

    def as_completed(self, timeout: timedelta | float | None = None, *, progress: bool = False) -> Iterator[Completed]:
        """Each task once, in the order in which they finish, as they finish. Failed tasks are yielded, not raised.

        Args:
            timeout: Longest time from the first task asked for to the last, a `timedelta` or seconds. Default: none.
            progress: Show a progress bar.

        Raises:
            WaitTimeout: the timeout passed. A new iteration begins from the start.
        """
        for part in self._parts(timeout, progress=progress):
            yield from part

    def wait(self, timeout: timedelta | float | None = None) -> "SessionStatus":
        """Wait for the session's verdict.

        Raises:
            WaitTimeout: the timeout passed; the call may be repeated.
        """
        collector = self._link.collector
        self._connection.run(self._link.until(lambda: collector.state is not None), as_seconds(timeout))
        return self.status()

    def status(self) -> "SessionStatus":
        """How the session stands now."""
        return self._connection.run(self._link.status())

    def cancel(self) -> "SessionStatus":
        """Cancel the session's open tasks. Finished ones keep their results; running ones may still finish."""
        return self._connection.run(self._client.api.cancel(self.id))

    def pause(self) -> "SessionStatus":
        """Hold the session's queued tasks, until `resume()`. Running ones finish, and the deadline still counts.

        Raises:
            RequestRejected: the session has its verdict already.
        """
        return self._connection.run(self._client.api.pause(self.id))

    def resume(self) -> "SessionStatus":
        """Let a session go on that was held by `pause()`; one that was not goes on as it did.

        Raises:
            RequestRejected: the session has its verdict already.
        """
        return self._connection.run(self._client.api.resume(self.id))

    def chunks(self) -> "Iterator[ChunkRecord]":
        """The grid's records of the session's chunks as they are now, finished or not, in the order of their tasks.
        Read in pages, as they are asked for."""
        from htcgrid._pages import chunk_pages

        return self._connection.iterate(chunk_pages(self._client.api, self.id))

    def dead_letters(self) -> "Iterator[DeadLetter]":
        """The tasks that failed for good, those of one chunk together that failed alike, in the order of the chunks.
        Read in pages, as they are asked for."""
        from htcgrid._pages import dead_letter_pages

        return self._connection.iterate(dead_letter_pages(self._client.api, self.id))

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
            How many tasks run again; those that did not fail are passed over.

        Raises:
            InvalidTask: an event is not JSON. Nothing is run again.
            InvalidOption: the selection is malformed. Nothing is run again.
            RequestRejected: the session takes no more work, since it was cancelled or its time is over.
        """
        from htcgrid._dead_letters import redrives

        requests = redrives(fingerprint, tasks, events)
        return self._connection.run(self._link.redrive(requests))

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
        from htcgrid._dead_letters import purges

        return self._connection.run(self._link.purge(purges(fingerprint, tasks)))

    def task(self, index: SupportsIndex) -> "TaskRecord":
        """The grid's record of one task.

        Raises:
            TaskNotFound: the session has no task with this number.
            InvalidOption: what is given is no whole number.
        """
        return self._connection.run(self._client.api.task(self.id, _known(self.id, index)))

    def event(self, index: SupportsIndex) -> JSON:
        """What one task was given, to run it again somewhere else.

        Raises:
            TaskNotFound: the session has no task with this number.
            InvalidOption: what is given is no whole number.
            ResultsUnavailable: the grid no longer keeps it.
        """
        number = _known(self.id, index)
        event: JSON = json.loads(self._connection.run(self._link.event(number)))
        return event

    def timeline(self) -> list[TaskTimes]:
        """When each task that has finished so far passed the stages of its way, in the order of the tasks."""
        outcomes = self._connection.run(self._link.outcomes())
        return [
            TaskTimes(index, **outcome.stages.model_dump())
            for outcome in outcomes
            for index in range(outcome.first_task, outcome.first_task + outcome.size)
        ]

    def __repr__(self) -> str:
        return f"<Session {self.id}>"

    def _parts(self, timeout: timedelta | float | None, *, progress: bool) -> Iterator[Iterator[Completed]]:
        """Finished tasks, chunk by chunk. Decoded here, in the caller's thread, so that the loop stays free."""
        seconds = as_seconds(timeout)
        ends = None if seconds is None else time.monotonic() + seconds
        stream = self._link.stream()
        try:
            with progress_of(self._link.collector) if progress else nullcontext() as bar:
                while True:
                    left = None if ends is None else max(0.0, ends - time.monotonic())
                    parts = self._connection.run(stream.next_parts(), left)
                    if not parts:
                        break
                    for part in parts:
                        yield opened(self.id, part, self._verdict(stream, part))
                        if bar is not None:
                            bar.add(part)
        finally:
            self._connection.post(stream.stop)

    def _verdict(self, stream: "ResultStream", part: Arrival | Lost) -> "SessionState | None":
        """Why tasks of this part were cancelled; asked for only where there are any."""
        if isinstance(part, Arrival) and "X" in part.outcome.outcomes:
            return self._connection.run(stream.why_cancelled())
        return None


def _known(session_id: str, index: SupportsIndex) -> int:
    number = task_number(index)
    if number < 0:
        raise TaskNotFound(f"session {session_id} has no task {number}: the first one is task 0")
    return number
