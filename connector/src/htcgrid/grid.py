"""A grid as its user sees it."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from htcgrid.errors import EmptySession, GridError, InvalidOption, SessionNotFound
from htcgrid.options import (
    JSON,
    SubmitOptions,
    as_seconds,
    as_timestamp,
    check_session_id,
    session_options,
    session_state,
)
from htcgrid.session import Session

if TYPE_CHECKING:
    from htcgrid._client import SessionLink
    from htcgrid._connection import Connection
    from htcgrid._encoding import EncodedChunk
    from htcgrid._submission import Submission
    from htcgrid.profile import Profile
    from htcgrid_events import CancelledSessions, GridInfo, SessionState, SessionSummary

_EMPTY = "there is no task to submit: give at least one"


class Grid:
    """A connection to a grid. Use it as a context manager, or call `close()`. Safe to use from several threads."""

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
    ) -> Self:
        """Sign in to a grid.

        Args:
            profile: The grid's profile or the path of one. Default: see `Profile.default_path`.
            username: Who signs in. Default: the profile's user.
            password: With what. Default: the profile's password.
            request_timeout: How long a request is repeated while the grid does not answer or says "not now", a
                `timedelta` or seconds. Default: one minute.

        Raises:
            ProfileMissing: there is no profile.
            ProfileInvalid: the profile is wrong.
            AuthenticationFailed: the grid does not accept the user or the password.
            GridUnreachable: the grid's user pool does not answer.
        """
        from htcgrid._connection import Connection
        from htcgrid.profile import Profile

        found = profile if isinstance(profile, Profile) else Profile.load(profile)
        limit = timedelta(seconds=as_seconds(request_timeout, "request_timeout") or 0.0)
        return cls(Connection.open(found, username, password, limit))

    def submit(
        self,
        tasks: Iterable[JSON],
        *,
        chunk_size: int | None = None,
        session_id: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Session:
        """Submit tasks as one session. Returns when the grid has acknowledged them all: none is lost from then on.

        A list is checked as a whole before anything is sent. Any other iterable is sent as it is read, in bounded
        memory; a task that is not JSON then stops the submission, and what was sent of it is cancelled.

        Args:
            tasks: The tasks' events, in order: what `json.dumps` writes, without NaN, each up to 6 MB.
            chunk_size: Tasks that are scheduled together, 1 to 1,000. Default: chosen by their number and size.
            session_id: The id of a submission that broke off, to repeat it with the same tasks in the same form;
                what the grid has already is not done twice. Default: a new id.
            **options: See `SubmitOptions`.

        Raises:
            InvalidTask: a task is not JSON (`PayloadTooLarge`: too large); says which.
            EmptySession: there is no task.
            InvalidOption: an option is unknown or its value illegal.
            GridUnreachable: the grid does not answer; the end of the error's sentence says how to go on.
            GridUnavailable: the grid keeps saying "not now"; likewise.
        """
        from htcgrid._encoding import check_chunk_size, check_tasks, encode, whole
        from htcgrid_events import new_id

        settings = session_options(options)
        wanted_id = new_id() if session_id is None else _session_id(session_id)
        check_chunk_size(chunk_size)
        check_tasks(tasks)
        chunks: Iterable[EncodedChunk] = encode(tasks, chunk_size)
        if whole(tasks):
            chunks = list(chunks)
            if not chunks:
                raise EmptySession(_EMPTY)
        link, submission = self._connection.run(self._client.prepare_submission(wanted_id, settings))
        try:
            self._send(link, submission, chunks)
        except BaseException as error:
            self._abandon(submission, error)
            raise
        return Session(self._connection, link)

    def attach(self, session_id: str) -> Session:
        """A session that exists, whoever of this user's programs submitted it.

        Raises:
            SessionNotFound: the user has no such session; other users' sessions are not told apart from none.
            InvalidOption: what is given is no text.
        """
        check_session_id(session_id)
        return Session(self._connection, self._connection.run(self._client.attach(session_id)))

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
        from htcgrid._pages import session_pages

        moment = as_timestamp(before, "before")
        start = None if moment is None else f"{moment:013}"
        pages = session_pages(self._client.api, session_state(state), start)
        return self._connection.iterate(pages)

    def cancel(self, session_ids: Iterable[str] | None) -> "CancelledSessions":
        """Cancel several sessions at once.

        Args:
            session_ids: Their ids, or None for all of the user's that are open.

        Returns:
            Which of them were told to stop, which had ended already, and which are not known to be the user's.

        Raises:
            InvalidOption: what is given is no list of ids. Nothing is cancelled.
        """
        if isinstance(session_ids, str):
            raise InvalidOption("session_ids is a text: give a list of sessions' ids, or None for all that are open")
        ids = None if session_ids is None else [_session_id(given) for given in session_ids]
        return self._connection.run(self._client.cancel_sessions(ids))

    def info(self) -> "GridInfo":
        """What the grid tells of itself: its version, Region, partitions and clock, and how it knows the caller."""
        return self._connection.run(self._client.api.grid_info())

    def close(self) -> None:
        """Drop the connection. Sessions go on, and can be found again by their ids."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, link: "SessionLink", submission: "Submission", chunks: "Iterable[EncodedChunk]") -> None:
        """Send the chunks in batches, one held back, since the last one carries the totals."""
        from htcgrid._encoding import batches

        held: list[EncodedChunk] = []
        for batch in batches(chunks):
            if held:
                self._connection.run(submission.send(held))
            held = batch
        if not held:
            raise EmptySession(_EMPTY)
        self._connection.run(link.finish(submission, held))

    def _abandon(self, submission: "Submission", error: BaseException) -> None:
        """Leave no half a session behind; and tell in the error what was done."""
        self._connection.run(submission.stop())
        session_id = submission.session_id
        if isinstance(error, GridError) and error.retryable:
            _tell(error, f"to go on, submit the same tasks again with session_id={session_id!r}")
        # An interrupted creation may have succeeded; a refused one may have met a session that is not ours to cancel.
        elif submission.created or (submission.begun and not isinstance(error, GridError)):
            try:
                self._connection.run(self._client.api.cancel(session_id))
            except SessionNotFound:
                return
            except GridError as fault:
                _tell(error, f"what was already sent of session {session_id} is not cancelled: {fault}")
            else:
                _tell(error, f"what was already sent of session {session_id} has been cancelled")


def _tell(error: BaseException, what: str) -> None:
    if isinstance(error, GridError):
        error.args = (f"{error}; {what}", *error.args[1:])
    else:
        error.add_note(what)  # the user's own error, or his Ctrl-C: not ours to reword


def _session_id(given: str) -> str:
    from htcgrid._client import is_id

    if not is_id(given):
        raise InvalidOption(f"session_id={given!r} is not legal: give a session's id, 32 hexadecimal digits")
    return given
