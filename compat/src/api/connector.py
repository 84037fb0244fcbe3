"""The client of the first HTC-Grid, for programs that were written for it. New programs use `htcgrid.Grid`."""

import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from api.configuration import has_pushes, profile_of
from htcgrid.errors import (
    AuthenticationFailed,
    GridError,
    InvalidOption,
    SessionCancelled,
    SessionTimedOut,
    TaskFailed,
    WaitTimeout,
)
from htcgrid.grid import Grid

if TYPE_CHECKING:
    from htcgrid.options import JSON, Notifications
    from htcgrid.profile import Profile
    from htcgrid.results import FinishedTask
    from htcgrid.session import Session
    from htcgrid_events import Account

_log = logging.getLogger(__name__)

TASK_TIMEOUT_SEC = 3600
"""Longest run of a task, unless `scheduler_data` says otherwise: as in the first HTC-Grid."""
RETRY_COUNT = 5
"""Retries of a task that failed, unless `scheduler_data` says otherwise: as in the first HTC-Grid."""

_STATES = ("finished", "cancelled", "failed")


class AWSConnector:
    """Submits tasks and gets their results. Call `init`, then `authenticate`, then the rest.

    All methods raise the errors of `htcgrid`, a `GridError` each.
    """

    def __init__(self) -> None:
        self._profile: Profile | None = None
        self._notifications: Notifications = "auto"
        self._username = ""
        self._password = ""
        self._grid: Grid | None = None

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
            username: Who signs in.
            password: With what.
            cognitoidp_client: Not used any more, as are the other two.
            s3_custom_resource: Not used.
            redis_custom_connection: Not used.

        Raises:
            ProfileInvalid: the configuration lacks something, or a value is illegal.
        """
        if any(client is not None for client in (cognitoidp_client, s3_custom_resource, redis_custom_connection)):
            warnings.warn("clients of AWS services are not used any more: the grid is reached by its API", stacklevel=2)
        self._profile = profile_of(agent_config_data)
        self._notifications = "auto" if has_pushes(agent_config_data) else "poll"
        self._username = username
        self._password = password

    def authenticate(self) -> None:
        """Sign in. From then on tokens are renewed without a word.

        Raises:
            AuthenticationFailed: the user or the password is wrong, or `init` was not called.
        """
        if self._profile is None:
            raise AuthenticationFailed("there is no configuration yet: call init() before authenticate()")
        self.close()
        self._grid = Grid.connect(
            self._profile, username=self._username, password=self._password, notifications=self._notifications
        )

    def close(self) -> None:
        """Drop the connection; done by itself when the program ends. Sessions go on. The first HTC-Grid had no such."""
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
        from htcgrid_events import new_id

        return {
            "session_id": new_id(),
            "scheduler_data": {"task_timeout_sec": TASK_TIMEOUT_SEC, "retry_count": RETRY_COUNT},
            "tasks_list": {"tasks": tasks_list},
        }

    def submit(self, jobs: Mapping[str, Any]) -> dict[str, Any]:
        """Submit what `generate_user_task_json` made. Repeating it changes nothing. Gives what `send` gives."""
        if "session_id" not in jobs or "tasks" not in jobs.get("tasks_list", {}):
            raise InvalidOption("there is no 'session_id' or no 'tasks_list': give what generate_user_task_json() made")
        scheduler_data = jobs.get("scheduler_data", {})
        session = self._signed_in().submit(
            jobs["tasks_list"]["tasks"],
            session_id=jobs["session_id"],
            task_timeout=scheduler_data.get("task_timeout_sec", TASK_TIMEOUT_SEC),
            max_retries=scheduler_data.get("retry_count", RETRY_COUNT),
        )
        count = len(jobs["tasks_list"]["tasks"])
        _log.info("session %s has %d tasks", session.id, count)
        return {"session_id": session.id, "task_ids": [f"{session.id}_{index}" for index in range(count)]}

    def get_results(self, submission_response: Mapping[str, Any], timeout_sec: float = 0) -> dict[str, Any]:
        """Wait for the results of a session.

        Args:
            submission_response: What `send` gave.
            timeout_sec: Longest wait in seconds; 0 waits for ever. When it is over, what there is is given.

        Returns:
            Under `finished`, `cancelled` and `failed` the ids of tasks, in their order; under `finished_OUTPUT` their
            results as JSON texts, under the other two `_OUTPUT` why there is none; under `metadata` how many tasks
            these are, as `tasks_in_response`.
        """
        session = self._session_of(submission_response)
        return _answer(session.id, _ended(session, timeout_sec if timeout_sec > 0 else None))

    def invoke_get_results_lambda(self, session_id: Mapping[str, str]) -> dict[str, Any]:
        """What has finished by now of the session under `session_id`, in the form of `get_results`."""
        session = self._session_of(session_id)
        return _answer(session.id, _ended(session, 0.0))

    def cancel(self, session_id: str) -> dict[str, dict[str, int]]:
        """Cancel one session. Gives what `cancel_sessions` gives."""
        return self.cancel_sessions([session_id])

    def cancel_sessions(self, session_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Cancel sessions, and wait until each has its verdict.

        Returns:
            By session: `cancelled_pending` tasks that waited, `cancelled_processing` ones that an agent held when the
            request was made, and `total_cancelled_tasks`, which is the account of the verdict. Zeros for a session
            that had ended before.

        Raises:
            SessionNotFound: one of them is not known. None is cancelled.
        """
        grid = self._signed_in()
        sessions = {session_id: grid.attach(session_id) for session_id in session_ids}
        running = {session_id: _running(session) for session_id, session in sessions.items()}
        ended = set(grid.cancel(list(sessions)).ended)
        return {
            session_id: _counts(0, 0) if session_id in ended else _cancelled(session, running[session_id])
            for session_id, session in sessions.items()
        }

    def _session_of(self, response: Mapping[str, Any]) -> "Session":
        if not isinstance(response, Mapping) or "session_id" not in response:
            raise InvalidOption("there is no 'session_id': give what send() gave")
        return self._signed_in().attach(response["session_id"])

    def _signed_in(self) -> Grid:
        if self._grid is None:
            raise AuthenticationFailed("nobody is signed in yet: call init() and authenticate() first")
        return self._grid


def _ended(session: "Session", seconds: float | None) -> "list[FinishedTask]":
    """The tasks that end within so many seconds; without a limit all of them."""
    found: list[FinishedTask] = []
    try:
        found.extend(session.as_completed(seconds))
    except WaitTimeout:
        _log.info("not all tasks of session %s have ended within %s s", session.id, seconds)
    return found


def _answer(session_id: str, tasks: "Iterable[FinishedTask]") -> dict[str, Any]:
    answer: dict[str, Any] = {key: [] for state in _STATES for key in (state, f"{state}_OUTPUT")}
    count = 0
    for count, task in enumerate(sorted(tasks, key=lambda task: task.index), 1):  # noqa: B007 - told below
        state = _state(task.error)
        answer[state].append(f"{session_id}_{task.index}")
        answer[f"{state}_OUTPUT"].append(json.dumps(task.result) if task.error is None else _reason(task.error))
    return {**answer, "metadata": {"tasks_in_response": count}}


def _state(error: GridError | None) -> str:
    if error is None:
        return "finished"
    return "cancelled" if isinstance(error, SessionCancelled | SessionTimedOut) else "failed"


def _reason(error: GridError) -> str:
    if not isinstance(error, TaskFailed):
        return str(error)
    return "\n".join((f"{error.type}: {error.message}", *(line.rstrip("\n") for line in error.trace)))


def _running(session: "Session") -> frozenset[int]:
    """The chunks that agents hold now."""
    return frozenset(chunk.chunk for chunk in session.chunks() if chunk.state.value == "RUNNING")


def _cancelled(session: "Session", running: frozenset[int]) -> dict[str, int]:
    account: Account = session.wait().account
    processing = (
        sum(chunk.outcomes.count("X") for chunk in session.chunks() if chunk.chunk in running) if running else 0
    )
    return _counts(account.cancelled - processing, processing)


def _counts(pending: int, processing: int) -> dict[str, int]:
    return {
        "cancelled_pending": pending,
        "cancelled_processing": processing,
        "total_cancelled_tasks": pending + processing,
    }
