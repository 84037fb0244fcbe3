"""Tasks that fail: which are tried again, when, and what is told of their tries."""

import json
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from agent.tests.embedded import until
from agent.tests.harness import FUNCTION, PYTHON_RUNTIMES, Place

from htcgrid_agent.runtimes.function_digest import function_digest
from htcgrid_chunks.clock import system_clock
from htcgrid_events import INLINE_BYTES, FailureKind, TaskError

pytestmark = pytest.mark.parametrize("runtime", PYTHON_RUNTIMES, indirect=True)


def failing(note: Path, **more: object) -> dict[str, Any]:
    return {"do": "raise", "note": str(note), "message": "no such curve", **more}


def tries(note: Path) -> int:
    return len(note.read_text().splitlines())


def test_a_failed_task_tells_of_each_of_its_tries(place: Place, tmp_path: Path) -> None:
    agent = place.agent(agent_id="agent-7")
    before = system_clock()
    session = place.submit([failing(tmp_path / "note")], max_retries=2)
    (error,) = place.results(session)
    assert isinstance(error, TaskError)
    assert (error.kind, error.type, error.attempts, error.agent) == (FailureKind.HANDLER, "LookupError", 3, "agent-7")
    assert error.host == socket.gethostname()
    assert [(each.kind, each.type, each.message) for each in error.history] == [
        (FailureKind.HANDLER, "LookupError", "no such curve")
    ] * 2
    moments = [moment for each in error.history for moment in (each.started_at, each.ended_at)]
    assert before <= moments[0]
    assert moments == sorted(moments)
    assert any("do_raise" in line for line in error.history[0].trace)
    assert tries(tmp_path / "note") == 3
    assert agent.process.poll() is None


def test_every_try_says_which_version_of_the_function_ran(place: Place, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(FUNCTION, old)
    shutil.copytree(FUNCTION, new)
    (new / "added.py").touch()
    note, go_on = tmp_path / "note", tmp_path / "go on"
    waiting = {"do": "wait", "note": str(tmp_path / "waiting"), "until": str(go_on)}
    before = place.agent(function_dir=old, agent_id="agent-1", workers=1, grace_seconds=0)
    session = place.submit([failing(note), waiting], max_retries=1)
    until((tmp_path / "waiting").exists)
    assert before.end() == 0
    go_on.touch()
    place.agent(function_dir=new, agent_id="agent-2", workers=1)
    error, _ = place.results(session)
    assert isinstance(error, TaskError)
    digests = (function_digest(old), function_digest(new))
    assert (error.history[0].function_digest, error.function_digest) == digests
    assert place.row(session).function_digests == digests
    (outcome,) = place.finished(session)
    assert outcome.function_digests == digests


def test_a_retry_is_told_of_and_its_message_is_kept(place: Place, tmp_path: Path) -> None:
    place.agent()
    session = place.submit([{"do": "raise_once", "note": str(tmp_path / "note")}, {"do": "echo", "value": 1}])
    assert place.results(session) == ["second try", 1]
    [event] = place.retries
    [task] = event.tasks
    assert (event.session_id, event.chunk, event.attempt, event.failed) == (session.session_id, 0, 1, 1)
    assert (task.task_id, task.type, task.attempts) == (f"{session.session_id}_0", "LookupError", 1)
    # Each attempt tells of its own tasks.
    assert event.work.tasks == 2
    assert [work.tasks for work in place.work[session.key(0)]] == [1]
    until(place.is_clean)


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_retry_is_told_of_when_the_row_holds_the_results_of_the_other_tasks(
    place: Place, tmp_path: Path, size: int
) -> None:
    place.agent(agent_id="agent-7")
    values = [secrets.token_hex(size) for _ in range(4)]  # too random to be compressed into the row
    good = [{"do": "echo", "value": value} for value in values]
    tasks = [*good[:2], failing(tmp_path / "note"), *good[2:]]
    session = place.submit(tasks, max_retries=5, retry_base_seconds=3_600, retry_cap_seconds=3_600)

    def told_of() -> bool:
        place.receive_events()
        return bool(place.retries)

    until(told_of)
    row = place.row(session)
    digest = function_digest(FUNCTION)
    assert [task.function_digest for event in place.retries for task in event.tasks] == [digest]
    told = row.partial_outcome()
    assert (row.partly_final, told.outcomes, told.attempt, told.agent) == (True, "CCQCC", 1, "agent-7")
    assert (told.first_task, told.function_digests) == (0, (digest,))
    assert (told.results is None) == (size > INLINE_BYTES)
    lines = place.lines(session, told)
    assert [json.loads(lines[at]) for at in (0, 1, 3, 4)] == values


def test_kinds_of_failures_are_told_apart(place: Place, tmp_path: Path) -> None:
    place.agent(workers=1)
    session = place.submit(
        [failing(tmp_path / "note")], [{"do": "hang"}], [{"do": "segfault"}], max_retries=0, timeout=3
    )
    kinds = [error.kind for error in place.results(session)]
    assert kinds == [FailureKind.HANDLER, FailureKind.TIMEOUT, FailureKind.CRASH]


def test_the_row_tells_of_tries_while_the_task_is_open_and_after_it_succeeded(place: Place, tmp_path: Path) -> None:
    place.agent()
    session = place.submit([{"do": "raise_once", "note": str(tmp_path / "note")}])
    assert place.results(session) == ["second try"]
    [attempt] = place.row(session).history[0]
    assert (attempt.type, attempt.message) == ("LookupError", "the first try fails")


def test_an_error_that_the_session_declares_final_is_not_tried_again(place: Place, tmp_path: Path) -> None:
    place.agent()
    session = place.submit([failing(tmp_path / "note")], max_retries=5, non_retryable=["LookupError"])
    (error,) = place.results(session)
    assert (error.attempts, error.history) == (1, ())
    assert tries(tmp_path / "note") == 1


def test_an_error_that_the_handler_declares_final_is_not_tried_again(place: Place, tmp_path: Path) -> None:
    place.agent()
    session = place.submit([{"do": "raise_final", "note": str(tmp_path / "note")}], max_retries=5)
    (error,) = place.results(session)
    assert (error.type, error.attempts) == ("NonRetryableError", 1)


def test_a_retry_waits_as_its_session_says(place: Place, tmp_path: Path) -> None:
    place.agent()
    note = tmp_path / "note"
    long = place.submit([failing(note)], retry_base_seconds=3_600, retry_cap_seconds=3_600)
    until(lambda: place.row(long).tries == {0: 1})
    until(lambda: place.row(long).state == "RETRY")
    wait = place.row(long).claimable_at - system_clock()
    assert wait <= 3_600_000
    none = place.submit([failing(tmp_path / "other")], max_retries=3, retry_base_seconds=0)
    (error,) = place.results(none)
    assert error.attempts == 4


def test_the_message_of_a_held_chunk_is_deleted(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    note = tmp_path / "note"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note)}])
    assert place.store.pause([place.row(session)]) == [True]
    place.agent()
    until(lambda: place.messages() == 0)
    assert not note.exists()
    assert place.store.resume([place.row(session)]) == [True]
    gate.touch()
    place.send(session, 0)
    assert place.results(session) == [None]


def test_a_task_that_kills_its_agents_is_said_to_be_lost(place: Place, tmp_path: Path) -> None:
    session = place.submit([{"do": "kill_agent"}, {"do": "echo", "value": 2}], max_retries=1)
    while not place.events_of(session):
        agent = place.agent(lease_seconds=3, workers=1, sandbox="folder")
        until(lambda agent=agent: agent.process.poll() is not None or bool(place.events_of(session)))  # type: ignore[misc]
    error, two = place.results(session)
    assert (error.kind, error.attempts, two) == (FailureKind.LOST, 2, 2)
    [earlier] = error.history
    assert earlier.kind is FailureKind.LOST
    assert earlier.agent
