"""Errors tell what happened over there, and travel."""

import pickle
import traceback

from htcgrid import Attempt, TaskFailed
from htcgrid.results import Arrival, Part
from htcgrid_dataplane import encode_lines
from htcgrid_events import ChunkOutcome, FailureKind, Stages, TaskError, new_id

FIRST = Attempt(
    started_at=1_000,
    ended_at=2_500,
    agent="agent-1",
    host="host-1",
    kind=FailureKind.CRASH,
    type="Killed",
    message="no memory",
)
LAST = TaskError(
    kind=FailureKind.HANDLER,
    type="ValueError",
    message="no such curve",
    trace=('  File "risk.py", line 7, in price\n', "    raise ValueError\n"),
    attempts=2,
    agent="agent-2",
    host="host-2",
    history=(FIRST,),
)


def failure() -> TaskFailed:
    outcome = ChunkOutcome(chunk=0, first_task=5, outcomes="F", attempt=2, agent="agent-2", stages=Stages())
    (task,) = Part(new_id(), Arrival(outcome, encode_lines([LAST.model_dump_json().encode()])))
    assert isinstance(task.error, TaskFailed)
    return task.error


def test_a_failed_task_tells_all_that_is_known() -> None:
    error = failure()
    assert (error.index, error.kind, error.type, error.attempts) == (5, "handler", "ValueError", 2)
    assert (error.agent, error.host, error.history) == ("agent-2", "host-2", (FIRST,))
    assert not error.retryable


def test_it_is_readable_where_it_is_raised() -> None:
    error = failure()
    shown = "".join(traceback.format_exception(error))
    assert (
        f"task 5 of session {error.session_id} failed after 2 attempts on agent-2 at host-2: ValueError: no such curve"
        in shown
    )
    assert "Remote traceback:\n" in shown
    assert 'File "risk.py", line 7, in price\n' in shown
    assert "Earlier attempts:\n" in shown
    assert "  1. after 1.5 s on agent-1: crash: Killed: no memory" in shown


def test_it_crosses_process_borders() -> None:
    error = failure()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is TaskFailed
    assert str(again) == str(error)
    assert again.history == error.history
    assert again.__notes__ == error.__notes__
