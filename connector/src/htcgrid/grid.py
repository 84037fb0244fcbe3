"""A grid as its user sees it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from htcgrid.options import (
    JSON,
    Notifications,
    OnExit,
    SubmitOptions,
    as_moment,
    as_seconds,
    check_notifications,
    check_on_exit,
    session_id_of,
    session_id_or_none,
    session_ids_of,
    session_options,
    session_state,
)
from htcgrid.session import Session

if TYPE_CHECKING:
    from htcgrid._core.connection import Connection
    from htcgrid._core.gatherer import Gatherer
    from htcgrid._core.session_link import SessionLink
    from htcgrid._data.upload import Progress
    from htcgrid.futures import TaskFuture
    from htcgrid.profile import Profile
    from htcgrid.results import FinishedTask
    from htcgrid.shared_data import SharedData
    from htcgrid_events import CancelledSessions, DataRecord, GridInfo, SessionOptions, SessionState, SessionSummary


class Grid:
    """A connection to a grid. Use it as a context manager, or call `close()`. Safe to use from several threads.

    Programs with an event loop use `AsyncGrid`, which has the same methods.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._client = connection.client

    @classmethod
    def connect(
        cls,
        profile: "Profile | Path | str | None" = None,
        *,
        username: str | None = None,
        password: str | None = None,
        request_timeout: timedelta | float = timedelta(minutes=1),
        notifications: Notifications = "auto",
    ) -> Self:
        """Sign in to a grid.

        Args:
            profile: The grid's profile or the path of one. Default: see `Profile.default_path`.
            username: Who signs in. Default: the profile's user.
            password: With what. Default: the profile's password.
            request_timeout: How long a request is repeated while the grid does not answer or says "not now", a
                `timedelta` or seconds. Default: one minute.
            notifications: How finished tasks become known; see `Notifications`. `Session.notifications` tells how they
                do. Default: `auto`.

        Raises:
            ProfileMissing: there is no profile.
            ProfileInvalid: the profile is wrong.
            AuthenticationFailed: the grid does not accept the user or the password.
            GridUnreachable: the grid's user pool does not answer.
            NotificationsUnavailable: what `notifications` asks for cannot be had.
        """
        from htcgrid._core.connection import Connection
        from htcgrid.profile import Profile

        check_notifications(notifications)
        found = profile if isinstance(profile, Profile) else Profile.load(profile)
        limit = timedelta(seconds=as_seconds(request_timeout, "request_timeout") or 0.0)
        return cls(Connection.open(found, username, password, limit, notifications))

    def submit(
        self,
        tasks: Iterable[JSON],
        *,
        chunk_size: int | None = None,
        session_id: str | None = None,
        on_result: "Callable[[FinishedTask], object] | None" = None,
        on_exit: OnExit = "cancel_on_error",
        preload: bool = False,
        **options: Unpack[SubmitOptions],
    ) -> Session:
        """Submit tasks as one session. Returns when the grid has acknowledged them all: none is lost from then on.

        A list is checked as a whole before anything is sent. Any other iterable is sent as it is read, in bounded
        memory: a task waits 250 ms at most for others to travel with, however slow the iterable is. A task that is not
        JSON then stops the submission, and what was sent of it is cancelled.

        Args:
            tasks: The tasks' events, in order: what `json.dumps` writes, without NaN, each up to 6 MB.
            chunk_size: Tasks that are scheduled together, 1 to 1,000. Default: chosen by their number and size.
            session_id: The id of a submission that broke off, to repeat it with the same tasks in the same form;
                what the grid has already is not done twice. Default: a new id.
            on_result: Called with each task (a `FinishedTask`) once, as it finishes, in a thread of the
                grid; it may use the grid, but must not wait for this session. What it raises is logged. `Session.wait`
                returns when it has been called for all.
            on_exit: What becomes of the session when it is used as a context manager and the block is left; see
                `OnExit`. Default: it is cancelled if an error leaves the block.
            preload: Have the partition's agents fetch the shared data of the first tasks at once, and not when a task
                wants it. Default: no.
            **options: See `SubmitOptions`.

        Raises:
            InvalidTask: a task is not JSON (`PayloadTooLarge`: too large); says which.
            DataMissing: tasks refer to shared data that is not in the grid.
            EmptySession: there is no task.
            InvalidOption: an option is unknown or its value illegal.
            GridUnreachable: the grid does not answer; the end of the error's sentence says how to go on.
            GridUnavailable: the grid keeps saying "not now"; likewise.
        """
        from htcgrid._core.intake import Intake
        from htcgrid._submit.encoding import Encoder, check_chunk_size
        from htcgrid._submit.repetition import known_chunks
        from htcgrid._submit.tables import tasks_of

        check_on_exit(on_exit)
        settings, wanted_id = session_options(options), session_id_or_none(session_id)
        check_chunk_size(chunk_size)
        tasks = tasks_of(tasks)
        encoder = Encoder()
        batches = encoder.encode(tasks, chunk_size) if isinstance(tasks, Sequence) else None
        link, feed = self._connection.run(self._client.open(wanted_id, settings, encoder, preload=preload))
        intake = Intake(self._connection, feed)
        try:
            if batches is None:
                encoder.known = self._connection.run(known_chunks(self._client.api, wanted_id))
                intake.send_all(tasks, chunk_size)
            else:
                intake.send_batches(batches)
            intake.close()
        except BaseException as error:
            self._connection.run(intake.abandon(error, feed.abandon))
            raise
        return self._session(link, on_result, on_exit)

    def submit_one(self, event: JSON, **options: Unpack[SubmitOptions]) -> "TaskFuture":
        """Submit one task as a session of its own. Gives its future, a `concurrent.futures.Future`.

        Many single tasks are better given to a `GridExecutor`, which sends them together. Raises as `submit` does.
        """
        (future,) = self.submit([event], **options).futures()
        return future

    def map(
        self,
        tasks: Iterable[JSON],
        *,
        buffersize: int = 10_000,
        return_exceptions: bool = False,
        chunk_size: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Iterator[Any]:
        """The results of tasks, in their order, while the tasks are still being drawn: millions in bounded memory.

        Tasks are drawn in a thread of the grid's, as results are taken, so that results come also while the iterable
        waits for its next task. Leaving early, or an error, cancels what is open.

        Args:
            tasks: The tasks' events, in order.
            buffersize: How many tasks may be drawn whose results have not been taken yet, at most. Default: 10,000.
            return_exceptions: Give a failed or cancelled task's error in its place, instead of raising it.
            chunk_size: Tasks that are scheduled together, at most. Default: more and more of them, up to 500 or a
                sixteenth of the buffer.
            **options: See `SubmitOptions`.

        Raises: what `submit` and `Session.results` raise, when the first result is asked for or later.
        """
        from htcgrid._core.lookahead import Lookahead
        from htcgrid._submit.encoding import Encoder

        settings = session_options(options)
        ahead = Lookahead(tasks, buffersize, chunk_size)
        run = self._connection.run
        link, feed = run(self._client.open(None, settings, Encoder()))
        reading = link.reading(in_order=True)
        ahead.start(self._connection, feed)
        try:
            while parts := run(ahead.next(reading)):
                for part in parts:
                    for task in part:
                        ahead.took()
                        yield task.error if return_exceptions and task.error is not None else task.get()
        except BaseException as error:
            ahead.stop()
            run(ahead.abandon(error, link))
            raise
        finally:
            self._connection.post(reading.stop)

    def put(
        self, data: "Path | str | bytes", *, name: str | None = None, progress: "Progress | None" = None
    ) -> "SharedData":
        """Put data into the grid that many tasks share: each host fetches it once. What is there already is not
        uploaded again.

            curves = grid.put("curves.parquet")
            grid.submit({"trade": trade, "curves": curves} for trade in trades)  # the handler finds a path there

        Args:
            data: A path of a file or a folder, or bytes; up to 5 GiB.
            name: The last part of the path at which handlers find it. Default: that of the path, `data` for bytes.
            progress: Called with how many bytes more were uploaded. Default: nothing is.

        Raises:
            InvalidData: it cannot be read, or is too large.
            RequestRejected: it is more than the user may keep.
        """
        from htcgrid._data.source import opened
        from htcgrid._data.upload import upload
        from htcgrid.shared_data import SharedData

        with opened(data, name) as source:
            return SharedData(self._connection.run(upload(self._client.api, source, progress)))

    def data(self) -> "Iterator[DataRecord]":
        """The user's shared data, in the order of digests. Read in pages, as they are asked for."""
        from htcgrid._follow.pages import data_pages

        return self._connection.iterate(data_pages(self._client.api))

    def delete_data(self, sha256: str, *, force: bool = False) -> bool:
        """Delete shared data. False if there is none of this digest.

        Args:
            sha256: Its digest.
            force: Also while sessions refer to it that may not have ended. Default: no.

        Raises:
            InvalidData: it is no digest.
            RequestRejected: sessions refer to it, and `force` is not given.
        """
        return self._connection.run(self._client.api.delete_data(sha256, force=force)).deleted

    def resolve(self, event: JSON, folder: "Path | str") -> JSON:
        """A task's event as its handler sees it: with paths below `folder` in place of references to shared data, which
        is downloaded unless it is there.

        Raises:
            DataNotFound, ResultsUnavailable: data is not there any more, or is not what its digest says.
        """
        from htcgrid._data.download import Downloads

        resolved: JSON = self._connection.run(Downloads(self._client.api, Path(folder)).resolve(event))
        return resolved

    def open_session(
        self,
        *,
        session_id: str | None = None,
        on_result: "Callable[[FinishedTask], object] | None" = None,
        on_exit: OnExit = "cancel_on_error",
        **options: Unpack[SubmitOptions],
    ) -> Session:
        """Create a session without a task, to be fed by `Session.add` as often as needed and closed by `Session.close`.

            with grid.open_session() as session:  # closed at the end of the block, cancelled by an error in it
                for portfolio in portfolios:
                    session.add(portfolio)

        Args:
            session_id: The id of an open session that broke off, to feed it again with the same tasks by the same
                calls. Default: a new id.
            on_result: See `submit`.
            on_exit: See `submit`.
            **options: See `SubmitOptions`.

        Raises: what `submit` raises.
        """
        from htcgrid._submit.encoding import Encoder
        from htcgrid._submit.repetition import known_chunks

        check_on_exit(on_exit)
        settings, wanted_id = session_options(options), session_id_or_none(session_id)
        link, feed = self._connection.run(self._client.open(wanted_id, settings, Encoder()))
        try:
            feed.encoder.known = self._connection.run(known_chunks(self._client.api, wanted_id))
            self._connection.run(feed.create())
        except BaseException as error:
            self._connection.run(feed.abandon(error))
            raise
        return self._session(link, on_result, on_exit)

    def attach(self, session_id: str, *, on_exit: OnExit = "keep") -> Session:
        """A session that exists, whoever of this user's programs submitted it, as long as the grid keeps it.

        Args:
            session_id: Its id, also in capitals or with dashes, or its first digits (at least 4; a progress bar shows
                8) where no other session of the user begins with them.
            on_exit: See `submit`. Default: it goes on.

        Raises:
            SessionNotFound: the user has no such session; other users' sessions are not told apart from none.
            InvalidOption: what is given is no text, or several sessions begin like this; names two of them.
        """
        check_on_exit(on_exit)
        link = self._connection.run(self._client.attach(session_id_of(session_id)))
        return Session(self._connection, link, on_exit)

    def sessions(
        self, *, state: "SessionState | str | None" = None, before: datetime | None = None
    ) -> "Iterator[SessionSummary]":
        """The user's sessions, newest first. Read in pages, as they are asked for.

        Args:
            state: Only those in this state, such as `RUNNING`. Default: all that the grid still knows.
            before: Only those created before this moment; one without a time zone is local time.

        Raises:
            InvalidOption: there is no such state, or what is given is no moment.
        """
        from htcgrid._follow.pages import session_pages

        pages = session_pages(self._client.api, session_state(state), as_moment(before, "before"))
        return self._connection.iterate(pages)

    def cancel(self, session_ids: Iterable[str] | None) -> "CancelledSessions":
        """Cancel several sessions at once.

        Args:
            session_ids: Their ids, or beginnings of them as in `attach`, or None for all of the user's that are open.

        Returns:
            Which of them were told to stop, which had ended already, and which are not known to be the user's.

        Raises:
            InvalidOption: what is given is no list of ids, or several sessions begin like one of them. Nothing is
                cancelled.
            SessionNotFound: no session begins like one of them. Nothing is cancelled; a whole id that is not known is
                told in the answer instead.
        """
        return self._connection.run(self._client.cancel_sessions(session_ids_of(session_ids)))

    def info(self) -> "GridInfo":
        """What the grid tells of itself: its version, Region, partitions and clock, and how it knows the caller."""
        return self._connection.run(self._client.api.grid_info())

    def close(self) -> None:
        """Drop the connection. Sessions go on, and can be found again by their ids."""
        self._connection.close()

    def __repr__(self) -> str:
        return f"<Grid at {self._client.address} for {self._client.username}>"

    def _repr_html_(self) -> str:
        from htcgrid_events.views import table_of

        return table_of("grid", {"address": self._client.address, "user": self._client.username})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _gatherer(self, options: "SessionOptions") -> "Gatherer":
        """What gathers single tasks, for `GridExecutor`."""
        from htcgrid._core.gatherer import Gatherer

        return Gatherer(self._connection, options)

    def _session(
        self, link: "SessionLink", on_result: "Callable[[FinishedTask], object] | None", on_exit: OnExit
    ) -> Session:
        if on_result is not None:
            self._connection.run(link.call_back(on_result, self._connection.delivery.hand))
        return Session(self._connection, link, on_exit)
