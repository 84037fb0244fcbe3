"""`htcgrid submit`: a file of tasks as one session, in bounded memory, to be interrupted and gone on with at will."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from htcgrid.cli.attach import follow, goes_on
from htcgrid.cli.exits import INTERRUPTED, BadInput
from htcgrid.cli.output import print_json, print_line, say
from htcgrid.cli.parameters import JsonOption, ProfileOption, connected
from htcgrid.cli.session_options import with_session_options
from htcgrid.cli.signals import Interrupted, interruptible
from htcgrid.cli.tasks_file import STANDARD_INPUT, Format, TaskFile, TaskStream, format_of, open_tasks
from htcgrid.errors import GridError

if TYPE_CHECKING:
    from htcgrid.cli.submissions import SubmissionState
    from htcgrid.cli.task_stream import Follower
    from htcgrid.grid import Grid
    from htcgrid.session import Session


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("submit")(submit)


@with_session_options
def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file of tasks; - for standard input.")],
    written_as: Annotated[
        Format | None,
        typer.Option("--format", help="How the tasks are written. Default: by the file's name, else by how it begins."),
    ] = None,
    follow_it: Annotated[
        bool, typer.Option("--follow", "-f", help="Print results as they come, as JSON Lines; progress is on stderr.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="SESSION", help="Continue a submission that was interrupted.")
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Tasks that are scheduled together, 1 to 1000. Default: chosen.")
    ] = None,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
    options: dict[str, Any],
) -> None:
    """Submit a file of tasks as one session.

    The tasks are JSON Lines, a JSON array, or the rows of a CSV file. The session's id is printed at once. An
    interrupted submission is continued with --resume and the same file; no task is submitted twice. A file is checked
    to its end before anything is sent. Standard input is sent while it is read, and what was sent before a bad line is
    cancelled.
    """
    _check(options, chunk_size)
    if resume is None:
        state, tasks = _new_submission(file, written_as, chunk_size, options)
    else:
        resume = _whole_id(resume, profile)
        state, tasks = _former_submission(resume, file, written_as, chunk_size, options)
    with connected(profile) as grid:
        if resume is not None and not state.kept:
            _check_that_it_goes_on(grid, resume)
        _announce(state.session_id, as_data=not as_json and not follow_it)
        streamed = not isinstance(tasks, TaskFile) and (follow_it or resume is not None)
        with _kept(state, profile):
            session, follower = (_stream if streamed else _send)(grid, state, tasks, follow_it=follow_it)
        if follow_it:
            raise typer.Exit(_exit_code(session, follower))
        if as_json:
            print_json(session.status())


def _check(options: dict[str, Any], chunk_size: int | None) -> None:
    """Refuse options before the session's id is told."""
    from htcgrid._submit.encoding import check_chunk_size
    from htcgrid.options import session_options

    session_options(options)
    check_chunk_size(chunk_size)


def _new_submission(
    file: str, written_as: Format | None, chunk_size: int | None, options: dict[str, Any]
) -> "tuple[SubmissionState, TaskStream]":
    from htcgrid.cli.submissions import SubmissionState
    from htcgrid_events import new_id

    tasks = open_tasks(file, format_of(file, written_as))
    state = SubmissionState(
        session_id=new_id(),
        file=file,
        format=tasks.format,
        tasks=_count(tasks),
        digest=tasks.digest if isinstance(tasks, TaskFile) else None,
        chunk_size=chunk_size,
        options=options,
    )
    return state, tasks


def _whole_id(given: str, profile: str | None) -> str:
    """The id of a session to go on with, of which the id or its beginning is given. Raises as `Grid.attach` does."""
    from htcgrid._core.session_ids import the_one
    from htcgrid.cli.submissions import SubmissionState
    from htcgrid.options import ID_LENGTH, plain_id, session_id_of

    if plain_id(given) is None:
        raise BadInput(f"{given!r} is no session's id, which has {ID_LENGTH} hexadecimal digits")
    plain = session_id_of(given)
    if len(plain) == ID_LENGTH:
        return plain
    # Those that were begun here come first: the grid may not know of one yet that was interrupted early.
    if kept := SubmissionState.kept_ids(plain):
        return the_one(plain, kept)
    with connected(profile) as grid:
        return grid.attach(plain).id


def _former_submission(
    session_id: str, file: str, written_as: Format | None, chunk_size: int | None, options: dict[str, Any]
) -> "tuple[SubmissionState, TaskStream]":
    """The submission as it was begun. Tasks are cut into chunks by their number, if that was known then."""
    from htcgrid.cli.submissions import SubmissionState
    from htcgrid_events.views import counted

    state = SubmissionState.load(session_id)
    if state is None:  # begun on another machine, if at all: the grid refuses whatever is not as it was
        fresh, tasks = _new_submission(file, written_as, chunk_size, options)
        return fresh.model_copy(update={"session_id": session_id}), tasks
    if options or chunk_size is not None:
        raise BadInput("a submission goes on with the options with which it began: leave them out")
    tasks = open_tasks(file, written_as or state.format)
    count = _count(tasks)
    if state.tasks is None:
        return state, TaskStream(tasks.place, tasks.format)
    if count not in (None, state.tasks):
        raise BadInput(
            f"{file} holds {counted(count, 'task')}, and the submission began with {state.tasks:,}: it must not change"
        )
    if isinstance(tasks, TaskFile) and tasks.digest != state.digest:
        raise BadInput(f"{file} is not as it was when the submission began: it must not change")
    return state, TaskFile(tasks.place, tasks.format, count=state.tasks, digest=state.digest or "")


def _check_that_it_goes_on(grid: "Grid", session_id: str) -> None:
    """Refuse an id under which nothing was begun, or which is through: its tasks would be submitted once more."""
    from htcgrid_events import SessionState

    state = grid.attach(session_id).status().state
    if state is not SessionState.OPEN:
        raise BadInput(
            f"session {session_id} takes no more tasks, it is {state.value}: see htcgrid attach {session_id}"
        )


def _count(tasks: TaskStream) -> int | None:
    return len(tasks) if isinstance(tasks, TaskFile) else None


def _announce(session_id: str, *, as_data: bool) -> None:
    if as_data:
        print_line(session_id)
    else:
        say(f"session {session_id}")


def _send(
    grid: "Grid", state: "SubmissionState", tasks: TaskStream, *, follow_it: bool
) -> "tuple[Session, Follower | None]":
    """Submit tasks whose results are asked for later, if at all."""
    from htcgrid.cli.task_stream import after_sending

    try:
        session = grid.submit(tasks, chunk_size=state.chunk_size, session_id=state.session_id, **state.options)
    except BadInput as error:
        if isinstance(tasks, TaskFile):
            raise
        raise after_sending(error, state.session_id) from error
    return session, None


def _stream(
    grid: "Grid", state: "SubmissionState", tasks: TaskStream, *, follow_it: bool
) -> "tuple[Session, Follower | None]":
    """Submit tasks as they come and follow them meanwhile. How they are cut into chunks depends on when they come."""
    from htcgrid.cli.task_stream import Follower, TasksReadAhead, feed, known_chunks

    known = known_chunks(grid, state.session_id)
    session = grid.open_session(session_id=state.session_id, **state.options)
    ahead = TasksReadAhead(tasks.with_sizes())
    follower = Follower(lambda: follow(session), on_failure=ahead.stop) if follow_it else None
    if follower is not None:
        follower.start()
    feed(session, ahead, state.chunk_size, known)
    return session, follower


def _exit_code(session: "Session", follower: "Follower | None") -> int:
    if follower is None:
        return follow(session)
    try:
        return follower.exit_code()
    except KeyboardInterrupt:
        return goes_on(session)


@contextmanager
def _kept(state: "SubmissionState", profile: "str | None") -> Iterator[None]:
    """Keep what tells how to go on while a session is submitted, and tell it where the submission breaks off."""
    state.save()
    try:
        with interruptible():
            yield
    except (Interrupted, KeyboardInterrupt) as interruption:  # the latter when Ctrl-C was pressed again
        say(f"htcgrid: interrupted: what was sent is kept; to go on: {_resumption(state, profile)}")
        raise typer.Exit(getattr(interruption, "exit_code", INTERRUPTED)) from None
    except GridError as error:
        _forget_or_tell(error, state, profile)
    except BaseException:
        state.forget()  # what was sent has been cancelled
        raise
    state.forget()


def _forget_or_tell(error: GridError, state: "SubmissionState", profile: "str | None") -> NoReturn:
    if not error.retryable:
        state.forget()
        raise error
    said = str(error).partition("; to go on,")[0]
    raise type(error)(f"{said}; what was sent is kept; to go on: {_resumption(state, profile)}") from error


def _resumption(state: "SubmissionState", profile: "str | None") -> str:
    file = [] if state.file == STANDARD_INPUT else [state.file]
    words = ["htcgrid", "submit", *(file or [STANDARD_INPUT]), "--resume", state.session_id]
    return shlex.join([*words, *(["--profile", profile] if profile else [])])
