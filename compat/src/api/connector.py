"""The client of the first HTC-Grid, for programs that were written for it. New programs use `htcgrid.Grid`."""

import logging
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from api.answers import NumberedTask, cancellation_answer, results_answer, submission_answer
from api.configuration import Configuration, read_configuration
from api.jobs import RETRY_COUNT, TASK_TIMEOUT_SEC, checked_session_id, read_jobs, user_task_json
from api.submissions import Submission, Submissions
from htcgrid.errors import AuthenticationFailed, InvalidOption, SessionNotFound, WaitTimeout
from htcgrid.grid import Grid

if TYPE_CHECKING:
    from htcgrid.options import JSON
    from htcgrid.results import FinishedTask
    from htcgrid.session import Session

__all__ = ["RETRY_COUNT", "TASK_TIMEOUT_SEC", "AWSConnector"]

_log = logging.getLogger(__name__)

_SESSIONS_REMEMBERED = 1_000
"""Sessions whose submissions are remembered; those of others are looked for when they are needed."""

# The first HTC-Grid's connector did this when it was imported, and programs report by `logging.info` because of it.
logging.basicConfig(
    format="%(asctime)s - %(levelname)s - %(filename)s - %(funcName)s  - %(lineno)d - %(message)s",
    datefmt="%H:%M:%S",
    level=logging.INFO,
)
# At level INFO it tells of every request, which would hide what the program itself reports.
logging.getLogger("httpx").setLevel(logging.WARNING)


class AWSConnector:
    """Submits tasks and gets their results. Call `init`, then `authenticate`, then the rest.

    All methods raise the errors of `htcgrid`, a `GridError` each.
    """

    def __init__(
        self, client_config_data: Mapping[str, Any] | None = None, username: str = "", password: str = ""
    ) -> None:
        """As `init`, which need not be called where the configuration is given here."""
        self._configuration: Configuration | None = None
        self._grid: Grid | None = None
        self._sessions: dict[str, Submissions] = {}
        if client_config_data is not None:
            self.init(client_config_data, username, password)

    def init(
        self,
        agent_config_data: Mapping[str, Any],
        username: str = "",
        password: str = "",
        cognitoidp_client: object = None,
        s3_custom_resource: object = None,
        redis_custom_connection: object = None,
    ) -> None:
        """Take the configuration over, without talking to the grid yet.

        Args:
            agent_config_data: The configuration of the first HTC-Grid's clients. Needed are `region`,
                `public_api_gateway_url` and `cognito_userpool_client_id`; `push_url` has results pushed instead of
                asked for. Keys without a meaning for this grid are passed over, unknown ones named in a warning.
            username: Who signs in. Default: the configuration's `username`, else the environment's `USERNAME`.
            password: With what. Default: the configuration's `password`, else the environment's `PASSWORD`.
            cognitoidp_client: Not used any more, as are the other two.
            s3_custom_resource: Not used.
            redis_custom_connection: Not used.

        Raises:
            ProfileInvalid: the configuration lacks something, or a value is illegal; names the key.
        """
        if any(client is not None for client in (cognitoidp_client, s3_custom_resource, redis_custom_connection)):
            warnings.warn("clients of AWS services are not used any more: the grid is reached by its API", stacklevel=2)
        found = read_configuration(agent_config_data)
        self._configuration = Configuration(
            found.profile, found.pushed, username or found.username, password or found.password
        )

    def authenticate(self) -> None:
        """Sign in. From then on tokens are renewed by themselves.

        Raises:
            AuthenticationFailed: the user or the password is missing or wrong, or `init` was not called.
        """
        config = self._configuration
        if config is None:
            raise AuthenticationFailed("there is no configuration yet: call init() before authenticate()")
        if not config.username or not config.password:
            raise AuthenticationFailed(_no_user())
        self.close()
        self._grid = Grid.connect(
            config.profile,
            username=config.username,
            password=config.password,
            notifications="auto" if config.pushed else "poll",
        )

    def close(self) -> None:
        """Drop the connection; done by itself when the program ends. Sessions go on. The first HTC-Grid had no such."""
        self._sessions.clear()
        if self._grid is not None:
            self._grid.close()
            self._grid = None

    def refresh(self) -> None:
        """Do nothing: tokens are renewed by themselves before they expire."""

    def send(self, tasks_list: "Sequence[JSON]") -> dict[str, Any]:
        """Submit tasks as one session.

        Returns:
            `{"session_id": …, "task_ids": ["<session>_0", …]}`
        """
        return self.submit(self.generate_user_task_json(tasks_list))

    def generate_user_task_json(self, tasks_list: "Sequence[JSON]") -> dict[str, Any]:
        """Tasks as `submit` takes them, with a new session's id, the time limit and the retries of a task."""
        return user_task_json(self._new_session(), tasks_list)

    def submit(self, jobs: Mapping[str, Any]) -> dict[str, Any]:
        """Submit what `generate_user_task_json` made, perhaps changed. Gives what `send` gives.

        A submission that raised may be repeated. Another one under the same session id adds its tasks to those that
        were submitted before.

        Args:
            jobs: A dict with

                - `session_id`: any text; None asks for a new id;
                - `tasks_list`: a dict with `tasks`, the list of the tasks' events;
                - `scheduler_data` (optional): `task_timeout_sec`, by default 3600, and `retry_count`, by default 5;
                - `context` (optional): `tasks_priority`; 0 is `low`, 1 is `normal`, larger ones are `high`. Without
                  it the tasks have the grid's own default, `normal`.

        Raises:
            InvalidOption: a key is missing, or its value is illegal; names the key.
            InvalidTask: a task is not JSON; says which. Nothing was submitted.
        """
        grid, wanted = self._signed_in(), read_jobs(jobs)
        session_id = wanted.session_id or self._new_session()
        submissions = self._sessions.get(session_id) or self._remember(Submissions(grid, session_id))
        made = submissions.submit(wanted.tasks, wanted.options)
        _log.info("session %s has %d more tasks, as session %s of the grid", session_id, len(made.tasks), made.grid_id)
        return submission_answer(session_id, made.tasks)

    def get_results(self, submission_response: Mapping[str, Any], timeout_sec: float = 0) -> dict[str, Any]:
        """Wait for the results of a submission.

        Args:
            submission_response: What `send` gave. Without `task_ids` it stands for all tasks of its session.
            timeout_sec: Longest wait in seconds; 0 waits for ever. When it is over, what there is is given.

        Returns:
            Under `finished`, `cancelled` and `failed` the ids of tasks, in their order; under `finished_OUTPUT` their
            results as JSON texts, under the other two `_OUTPUT` why there is none; under `metadata` how many tasks
            these are, as `tasks_in_response`.

        Raises:
            SessionNotFound: the user has no such session.
        """
        seconds = _seconds(timeout_sec)
        session_id, wanted = _response(submission_response)
        return self._results(session_id, wanted, seconds if seconds > 0 else None)

    def invoke_get_results_lambda(self, session_id: Mapping[str, str]) -> dict[str, Any]:
        """What has finished by now of the session under `session_id`, in the form of `get_results`."""
        wanted_id, wanted = _response(session_id)
        return self._results(wanted_id, wanted, 0.0)

    def cancel(self, session_id: str) -> dict[str, dict[str, int]]:
        """Cancel one session. Gives what `cancel_sessions` gives."""
        return self.cancel_sessions([session_id])

    def cancel_sessions(self, session_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Cancel sessions, and wait until each has its verdict.

        Returns:
            By session: `cancelled_pending` tasks that waited, `cancelled_processing` ones that an agent held when the
            request was made, and `total_cancelled_tasks`, which is the account of the verdict. Zeros for a session
            that had ended before, or is not known to be the user's, which a warning in the log names.

        Raises:
            InvalidOption: what is given is no list of session ids. Nothing is cancelled.
        """
        if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
            raise InvalidOption(f"session_ids={session_ids!r} is not legal: give a list of sessions' ids")
        grid = self._signed_in()
        submissions = {wanted: self._submissions(wanted).all() for wanted in map(checked_session_id, session_ids)}
        for unknown in (session_id for session_id, found in submissions.items() if not found):
            _log.warning("there is no session %s to cancel: the id is not right, or the session has expired", unknown)
        sessions = {found.grid_id: grid.attach(found.grid_id) for several in submissions.values() for found in several}
        running = {grid_id: _running_chunks(session) for grid_id, session in sessions.items()}
        stopping = set(grid.cancel(list(sessions)).stopping)
        counts = {
            grid_id: _cancelled(session, running[grid_id]) if grid_id in stopping else (0, 0)
            for grid_id, session in sessions.items()
        }
        return {
            session_id: cancellation_answer(
                pending=sum(counts[found.grid_id][0] for found in several),
                processing=sum(counts[found.grid_id][1] for found in several),
            )
            for session_id, several in submissions.items()
        }

    def _results(self, session_id: str, wanted: set[int] | None, seconds: float | None) -> dict[str, Any]:
        grid, submissions = self._signed_in(), self._submissions(session_id)
        found = submissions.all() if wanted is None else submissions.covering(wanted)
        if not found and wanted != set():
            raise SessionNotFound(session_id)
        ends = None if seconds is None else time.monotonic() + seconds
        tasks = (task for submission in found for task in _ended(grid, submission, ends))
        return results_answer(session_id, (task for task in tasks if wanted is None or task.number in wanted))

    def _submissions(self, session_id: str) -> Submissions:
        """What was submitted under an id; of ids that were not submitted here nothing is kept."""
        return self._sessions.get(session_id) or Submissions(self._signed_in(), session_id)

    def _new_session(self) -> str:
        from htcgrid_events import new_id

        session_id = new_id()
        if self._grid is not None:
            self._remember(Submissions(self._grid, session_id, new=True))
        return session_id

    def _remember(self, submissions: Submissions) -> Submissions:
        self._sessions[submissions.session_id] = submissions
        while len(self._sessions) > _SESSIONS_REMEMBERED:
            del self._sessions[next(iter(self._sessions))]
        return submissions

    def _signed_in(self) -> Grid:
        if self._grid is None:
            raise AuthenticationFailed("nobody is signed in yet: call init() and authenticate() first")
        return self._grid


def _no_user() -> str:
    what = "a user and a password are needed: give them to init(), or as 'username' and 'password' in the configuration"
    if os.environ.get("INTRA_VPC"):
        return f"INTRA_VPC is set, but this grid has no access without a user, from inside a VPC either; {what}"
    return what


def _seconds(timeout_sec: float) -> float:
    if isinstance(timeout_sec, bool) or not isinstance(timeout_sec, int | float) or not timeout_sec >= 0:
        raise InvalidOption(f"timeout_sec={timeout_sec!r} is not legal: give seconds from 0 up, where 0 waits for ever")
    return float(timeout_sec)


def _response(given: Mapping[str, Any]) -> tuple[str, set[int] | None]:
    """The session of a submission's answer, and the numbers of its tasks; none for all."""
    if not isinstance(given, Mapping) or "session_id" not in given:
        raise InvalidOption("there is no 'session_id': give what send() gave")
    session_id = checked_session_id(given["session_id"])
    if "task_ids" not in given:
        return session_id, None
    numbers = set()
    for task_id in given["task_ids"]:
        session, _, number = str(task_id).rpartition("_")
        if session != session_id or not number.isdecimal():
            raise InvalidOption(f"task_ids has {task_id!r}, which is no task of session {session_id}")
        numbers.add(int(number))
    return session_id, numbers


def _ended(grid: Grid, submission: Submission, ends: float | None) -> Iterator[NumberedTask]:
    """The tasks of a submission that have ended, or end until then (monotonic seconds); without a limit all of them."""
    session = grid.attach(submission.grid_id)
    left = None if ends is None else max(0.0, ends - time.monotonic())
    try:
        for task in _ended_by_now(session) if left == 0 else session.as_completed(left):
            yield NumberedTask(submission.tasks.start + task.index, task)
    except WaitTimeout:
        _log.info("not all tasks of session %s of the grid have ended in time", submission.grid_id)


def _ended_by_now(session: "Session") -> "Iterator[FinishedTask]":
    # As many as have ended can be had without waiting for one; a time limit of 0 would not leave time to ask for them.
    return islice(session.as_completed(), session.status().account.finished)


def _running_chunks(session: "Session") -> frozenset[int]:
    """The chunks that agents hold now."""
    return frozenset(chunk.chunk for chunk in session.chunks() if chunk.state.value == "RUNNING")


def _cancelled(session: "Session", running: frozenset[int]) -> tuple[int, int]:
    """How many tasks were cancelled that waited, and that ran, at the verdict."""
    account = session.wait().account
    processing = (
        sum(chunk.outcomes.count("X") for chunk in session.chunks() if chunk.chunk in running) if running else 0
    )
    return account.cancelled - processing, processing
