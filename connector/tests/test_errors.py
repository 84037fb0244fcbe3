"""Errors tell what happened over there, and travel."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import traceback
import unicodedata
from typing import Any

import pytest

import htcgrid
from htcgrid import Attempt, GridError, ResultsUnavailable, TaskFailed
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


HOSTILE = "\x1b]0;owned\x07\x9b31m\r\x00\x7f\u202e\u2066\u200b\ufeff\ud800"


def test_no_text_of_a_handler_reaches_a_terminal_by_an_error() -> None:
    attempt = FIRST.model_copy(update={"type": HOSTILE, "message": HOSTILE, "agent": HOSTILE})
    told: dict[str, Any] = {
        "type": HOSTILE,
        "trace": (HOSTILE,),
        "agent": HOSTILE,
        "host": HOSTILE,
        "history": (attempt,),
    }
    message = f"a naïve 計算 of 1\u00a0000 👩\u200d🔬\nin two lines{HOSTILE}"
    error = TaskFailed(session_id=new_id(), index=1, kind="handler", message=message, **told)
    shown = "".join(traceback.format_exception(error)) + str(error)
    wrong = {character for character in shown if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert wrong == {"\n", "\u200d"}
    assert "a naïve 計算 of 1\u00a0000 👩\u200d🔬\nin two lines\\x1b]0;owned\\x07\\x9b31m\\r" in shown
    assert repr(error).isprintable()
    assert (error.message, error.type, error.trace) == (message, HOSTILE, (HOSTILE,))


GIVEN: dict[str, Any] = {
    "message": "what and why",
    "status": 409,
    "reason": "Conflict",
    "index": 7,
    "size": 9,
    "limit": 8,
    "session_id": "0" * 32,
    "kind": "handler",
    "type": "ValueError",
    "number": 2,
}
"""Values of the parameters of errors, by their names."""


def every_error() -> list[type[GridError]]:
    """The tree below the root, from all modules of the connector."""
    for module in pkgutil.walk_packages(htcgrid.__path__, "htcgrid."):
        importlib.import_module(module.name)
    found: list[type[GridError]] = [GridError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return found


def made(kind: type[GridError]) -> GridError:
    if kind is TaskFailed:
        return failure()
    initialiser = kind.__init__
    if not inspect.isfunction(initialiser):
        return kind("a text")
    parameters = list(inspect.signature(initialiser).parameters.values())[1:]
    keywords = {each.name: GIVEN[each.name] for each in parameters if each.kind is each.KEYWORD_ONLY}
    positional = [GIVEN.get(each.name, "a text") for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return kind(*positional, **keywords)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickle_and_copy(kind: type[GridError]) -> None:
    error = made(kind)
    error.add_note("a note")
    pickled = [pickle.dumps(error, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    twins = [copy.copy(error), copy.deepcopy(error), *map(pickle.loads, pickled)]
    for twin in twins:
        assert type(twin) is kind
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_shown_without_control_characters(kind: type[GridError]) -> None:
    error = made(kind)
    error.args = (HOSTILE,)
    assert str(error).isprintable()


def test_a_result_that_is_nested_too_deeply_leaves_the_others() -> None:
    lines = [b"1", b"[" * 5_000 + b"]" * 5_000, b"9" * 5_000, b"{", b"2"]
    outcome = ChunkOutcome(chunk=0, first_task=0, outcomes="CCCCC", attempt=1, agent="a", stages=Stages())
    first, deep, long, torn, last = Part(new_id(), Arrival(outcome, encode_lines(lines)))
    assert (first.get(), last.get()) == (1, 2)
    with pytest.raises(ResultsUnavailable, match=r"task 1 of session .* is nested too deeply for Python's recursion"):
        deep.get()
    with pytest.raises(ResultsUnavailable, match=r"task 2 of session .* Exceeds the limit \(4300 digits\)"):
        long.get()
    with pytest.raises(ResultsUnavailable, match=r"task 3 of session .* 1 byte of text that is not JSON"):
        torn.get()
