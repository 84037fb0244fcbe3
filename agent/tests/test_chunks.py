"""What becomes of chunks, with real agents, workers and messages."""

import json
import signal
from pathlib import Path

import psutil
import pytest
from agent.tests.embedded import until
from agent.tests.harness import PYTHON_RUNTIMES, TENANT, Place

from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import Claim
from htcgrid_dataplane import result_key
from htcgrid_events import FailureKind, OutcomeCode, TaskError

pytestmark = pytest.mark.parametrize("runtime", PYTHON_RUNTIMES, indirect=True)


def echo(value: object) -> dict[str, object]:
    return {"do": "echo", "value": value}


def test_results_come_back_in_the_order_of_the_tasks(place: Place) -> None:
    place.agent()
    session = place.submit([echo(1), echo(None), echo("ü\n\U0001f600")], [echo({"a": [1.5, True]})])
    assert place.results(session) == [1, None, "ü\n\U0001f600", {"a": [1.5, True]}]
    until(place.is_clean)
    outcome = place.finished(session)[0]
    stages = outcome.stages
    assert outcome.attempt == 1
    assert 0 < stages.submitted_at <= stages.queued_at <= stages.claimed_at <= stages.started_at <= stages.finished_at
    assert place.row(session).outcome() == outcome


def test_the_event_of_a_chunk_tells_for_how_long_workers_were_busy_with_it(place: Place) -> None:
    place.agent(workers=2)
    session = place.submit([{"do": "nap", "seconds": 0.3}] * 4, [echo(1)])
    for outcome, tasks, least in zip(place.finished(session), (4, 1), (1_200_000, 0), strict=True):
        [work] = place.work[session.key(outcome.chunk)]
        assert work.tasks == tasks
        # Of both workers together, though they were busy at the same time.
        elapsed = (outcome.stages.finished_at - outcome.stages.started_at + 1) * 1_000
        assert least <= work.worker_us <= 2 * elapsed
        assert work.worker_us > 0


def test_large_inputs_and_results_take_the_data_plane(place: Place) -> None:
    place.agent()
    value = "".join(chr(0x4E00 + number % 20_000) for number in range(100_000))
    session = place.submit([echo(value), echo(1)])
    assert place.results(session) == [value, 1]
    outcome = place.finished(session)[0]
    assert outcome.results is None
    assert outcome.stored_bytes
    assert place.row(session).results_attempt == 1


def test_a_function_sees_what_lambda_would_show_it(place: Place) -> None:
    place.agent(function_name="my-function", function_memory_mb=512)
    session = place.submit([{"do": "facts"}], timeout=30)
    (facts,) = place.results(session)
    assert facts["name"] == "my-function"
    assert facts["version"] == "$LATEST"
    assert facts["memory"] == "512"
    assert facts["arn"].endswith(":function:my-function")
    assert facts["log_group"] == "/aws/lambda/my-function"
    assert 25_000 < facts["remaining_ms"] <= 30_000
    assert facts["custom"]["htcgrid_task_id"] == f"{session.session_id}_0"
    assert facts["trace"].startswith("Root=1-")
    assert facts["folder"] == str(Path(__file__).parent / "function")
    environment = facts["environment"]
    assert not [name for name in environment if name.startswith("HTCGRID_")]
    secrets = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
    assert not [name for name in environment if name.startswith(secrets)]
    assert environment["AWS_REGION"] == "us-east-1"


FAILING = [
    ({"do": "raise", "message": "no luck"}, FailureKind.HANDLER, "LookupError", "no luck"),
    ({"do": "nan"}, FailureKind.HANDLER, "Runtime.MarshalError", "is nan, which"),
    ({"do": "bytes", "value": "no json"}, FailureKind.HANDLER, "Runtime.MarshalError", "of type bytes"),
    ({"do": "large", "bytes": 10_000_000}, FailureKind.HANDLER, "Function.ResponseSizeTooLarge", "10000002"),
    ({"do": "exit"}, FailureKind.CRASH, "Runtime.ExitError", "exit code 3"),
    ({"do": "sys_exit"}, FailureKind.CRASH, "Runtime.ExitError", "exit code 4"),
    ({"do": "segfault"}, FailureKind.CRASH, "Runtime.ExitError", "SIGSEGV"),
    ({"do": "hang"}, FailureKind.TIMEOUT, "Sandbox.Timedout", "longer than 4 s"),
]


def test_tasks_that_fail_fail_alone(place: Place) -> None:
    agent = place.agent(agent_id="agent-1")
    session = place.submit([echo("before"), *(event for event, *_ in FAILING), echo("after")], timeout=4)
    before, *errors, after = place.results(session)
    assert (before, after) == ("before", "after")
    for error, (_, kind, type_, words) in zip(errors, FAILING, strict=True):
        assert isinstance(error, TaskError)
        assert (error.kind, error.type, error.attempts, error.agent) == (kind, type_, 2, "agent-1")
        assert words in error.message
    until(place.is_clean)
    assert place.row(session).tries == dict.fromkeys(range(1, len(FAILING) + 1), 2)
    until(lambda: len(agent.workers) == 2)


MISBEHAVIOUR: list[tuple[dict[str, object], OutcomeCode]] = [
    ({"do": "exit"}, OutcomeCode.FAILED),
    ({"do": "segfault"}, OutcomeCode.FAILED),
    ({"do": "allocate"}, OutcomeCode.FAILED),
    ({"do": "hang"}, OutcomeCode.FAILED),
    ({"do": "print", "bytes": 2_000_000}, OutcomeCode.COMPLETED),
    ({"do": "large", "bytes": 10_000_000}, OutcomeCode.FAILED),
    ({"do": "nan"}, OutcomeCode.FAILED),
    ({"do": "bytes", "value": "no json"}, OutcomeCode.FAILED),
    ({"do": "raise", "depth": 300, "message": "x" * 300_000}, OutcomeCode.FAILED),
]


def test_no_misbehaviour_leaves_anything_behind(place: Place) -> None:
    agent = place.agent(worker_memory_mb=512, quarantine_after=100)
    sessions = [place.submit([event, echo(1)], max_retries=1, timeout=4) for event, _ in MISBEHAVIOUR]
    for session, (event, code) in zip(sessions, MISBEHAVIOUR, strict=True):
        (outcome,) = place.finished(session, within=60)
        assert outcome.outcomes == code.value + OutcomeCode.COMPLETED.value, event
        assert place.row(session).outcome() == outcome
    until(place.is_clean)
    # What ran is gone with all that it had started, and two healthy workers are in its place.
    until(lambda: {process.pid for process in place.processes()} == {process.pid for process in agent.family})
    until(lambda: len(agent.workers) == 2)
    # A task's words reach its user, and a function's its own log, but no line of the agent's.
    assert max(len(json.dumps(said)) for said in agent.log_lines) < 2_000


def test_a_trace_of_300_frames_reaches_the_user_shortened(place: Place) -> None:
    place.agent()
    session = place.submit([{"do": "raise", "depth": 300}], max_retries=0)
    (error,) = place.results(session)
    assert any("in handler" in line for line in error.trace[:3])
    assert "raise LookupError" in error.trace[-1]
    assert len(error.trace) < 100


def test_the_last_words_of_a_worker_reach_the_user(place: Place) -> None:
    place.agent()
    session = place.submit([{"do": "exit"}], max_retries=0)
    (error,) = place.results(session)
    assert "about to leave" in error.trace[-1]


def test_a_task_that_prints_10_mb_is_none_the_worse(place: Place) -> None:
    place.agent()
    session = place.submit([{"do": "print", "bytes": 2_000_000}])
    assert place.results(session) == ["printed"]


def test_a_second_try_may_succeed(place: Place, tmp_path: Path) -> None:
    place.agent()
    session = place.submit([{"do": "raise_once", "note": str(tmp_path / "note")}, echo(1)])
    assert place.results(session) == ["second try", 1]
    assert place.finished(session)[0].attempt == 2


def test_results_of_earlier_attempts_are_kept_in_the_data_plane_too(place: Place, tmp_path: Path) -> None:
    place.agent()
    large = {"do": "large", "bytes": 20_000, "note": str(tmp_path / "large")}
    session = place.submit([{"do": "raise_once", "note": str(tmp_path / "note")}, large])
    first, second = place.results(session)
    assert (first, len(second)) == ("second try", 20_000)
    assert len((tmp_path / "large").read_text().splitlines()) == 1
    assert place.row(session).results_attempt == 2


def test_a_handler_that_cannot_be_loaded_fails_its_tasks(place: Place) -> None:
    place.agent(handler="handler.missing")
    session = place.submit([echo(1), echo(2)])
    errors = place.results(session)
    assert [(error.kind, error.type) for error in errors] == [(FailureKind.INIT, "Runtime.HandlerNotFound")] * 2


def test_a_handler_that_never_loads_fails_its_tasks(place: Place) -> None:
    place.agent(handler="endless.handler", init_timeout_seconds=1)
    session = place.submit([echo(1)], max_retries=0)
    (error,) = place.results(session)
    assert (error.kind, error.message) == (FailureKind.INIT, "The handler was not loaded within 1 s.")


def test_a_task_that_allocates_without_end_fails_alone(place: Place) -> None:
    place.agent(worker_memory_mb=512)
    session = place.submit([{"do": "allocate"}, echo(1)], max_retries=0)
    error, one = place.results(session)
    assert (error.kind, error.type, one) == (FailureKind.HANDLER, "MemoryError", 1)


def test_inputs_that_are_missing_fail_the_task(place: Place) -> None:
    session = place.submit([echo("x" * 1000 + str(number)) for number in range(1000)])
    place.s3.delete_object(Bucket=place.mark, Key=f"{TENANT}/{session.session_id}/inputs/0")
    assert place.row(session).inputs.data is None, "the inputs lie in the row"
    place.agent()
    assert {error.kind for error in place.results(session)} == {FailureKind.INPUT}


def test_duplicate_messages_run_a_chunk_once(place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"
    session = place.submit([echo(1) | {"note": str(note)}], messages=5)
    place.agent(lease_seconds=3)
    place.agent(lease_seconds=3)
    assert place.results(session) == [1]
    until(place.is_clean)
    assert len(note.read_text().splitlines()) == 1


def test_a_finished_chunk_is_told_of_again(place: Place) -> None:
    place.agent()
    session = place.submit([echo(1)])
    place.finished(session)
    until(place.is_clean)
    place.send(session, 0)
    until(place.is_clean)
    until(lambda: len(place.events_of(session)) == 2)
    place.finished(session)


def test_a_message_without_a_row_is_deleted(place: Place) -> None:
    session = place.submit([echo(1)])
    place.agent()
    place.send(session, 7)
    place.finished(session)
    until(place.is_clean)


def test_a_lost_lease_stops_the_work_and_drops_its_result(place: Place, tmp_path: Path) -> None:
    agent = place.agent(lease_seconds=3, workers=1)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": "late"}, echo(2)])
    until(note.exists)
    (worker,) = agent.workers
    far = system_clock() + 3_600_000
    ((stolen, row),) = place.store.claim([Claim(session.key(0), "thief", far, far + 60_000, "other", 1, TENANT)])
    assert stolen
    assert row
    until(lambda: agent.said("lease is lost"))
    until(lambda: not worker.is_running())
    gate.touch()
    assert place.row(session) == row
    # Other chunks go on meanwhile.
    other = place.submit([echo(3)])
    assert place.results(other) == [3]
    assert session.key(0) not in place.outcomes


def test_a_cancelled_chunk_is_stopped_within_a_heartbeat(place: Place, tmp_path: Path) -> None:
    agent = place.agent(lease_seconds=3, workers=1)
    note = tmp_path / "note"
    session = place.submit([{"do": "hang", "note": str(note)}, echo(1)])
    until(note.exists)
    (worker,) = agent.workers
    assert place.store.cancel([place.row(session)], system_clock()) == [True]
    until(lambda: not worker.is_running())
    outcome = place.finished(session)[0]
    assert outcome.outcomes == "XX"
    until(place.is_clean)


def test_a_heartbeat_keeps_a_long_task(place: Place, tmp_path: Path) -> None:
    place.agent(lease_seconds=3)
    place.agent(lease_seconds=3)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": "long"}])
    until(note.exists)
    first = place.row(session).claimable_at
    until(lambda: place.row(session).claimable_at > first + 4_000)
    gate.touch()
    assert place.results(session) == ["long"]
    assert place.row(session).attempt == 1
    assert len(note.read_text().splitlines()) == 1


def test_the_chunks_of_a_killed_agent_are_run_by_another(place: Place, tmp_path: Path) -> None:
    agent = place.agent(lease_seconds=3)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": "kept"}])
    until(note.exists)
    agent.signal(signal.SIGKILL)
    until(lambda: not place.processes())
    gate.touch()
    place.agent(lease_seconds=3)
    assert place.results(session) == ["kept"]
    assert place.row(session).attempt == 2
    until(place.is_clean)


def test_a_killed_worker_fails_only_its_task(place: Place, tmp_path: Path) -> None:
    agent = place.agent(workers=1)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": 1}, echo(2)], max_retries=0)
    until(note.exists)
    (worker,) = agent.workers
    worker.kill()
    error, two = place.results(session)
    assert (error.kind, two) == (FailureKind.CRASH, 2)
    assert "SIGKILL" in error.message


@pytest.mark.parametrize("then", ["exit", "hang"])
def test_the_children_of_a_worker_end_with_it(place: Place, tmp_path: Path, then: str) -> None:
    place.agent()
    child = tmp_path / "child"
    session = place.submit([{"do": "child", "then": then, "child": str(child)}], max_retries=0, timeout=3)
    (error,) = place.results(session)
    assert isinstance(error, TaskError)
    pid = int(child.read_text())
    until(lambda: pid not in [process.pid for process in place.processes()])


def test_an_agent_that_is_a_job_ends_once_there_is_no_more_work(place: Place) -> None:
    session = place.submit([echo(1)], [echo(2), echo(3)])
    agent = place.agent(idle_seconds=1)
    assert place.results(session) == [1, 2, 3]
    assert agent.process.wait(120) == 0
    assert agent.said("idle for 1 s")
    until(place.is_clean)


def test_an_idle_agent_ends_before_its_long_poll(place: Place) -> None:
    agent = place.agent()
    assert place.results(place.submit([echo(1)])) == [1]
    until(place.is_clean)
    assert agent.end(within=15) == 0


def test_an_agent_is_small(place: Place) -> None:
    agent = place.agent(workers=4)
    assert place.results(place.submit([echo(number) for number in range(20)])) == list(range(20))
    until(lambda: len(agent.workers) == 4)
    assert psutil.Process(agent.pid).memory_info().rss < 80_000_000


def test_sigterm_finishes_what_runs_and_hands_the_rest_back(place: Place, tmp_path: Path) -> None:
    agent = place.agent(workers=1, grace_seconds=600, lease_seconds=600)
    note, gate = tmp_path / "note", tmp_path / "gate"
    waiting = {"do": "wait", "until": str(gate), "note": str(note), "value": "run"}
    session = place.submit([waiting, echo("left")], [echo("not begun")])
    until(note.exists)
    agent.signal(signal.SIGTERM)
    until(lambda: agent.said("the agent stops"))
    gate.touch()
    assert agent.process.wait(60) == 0
    row = place.row(session)
    assert (row.state, row.outcomes, row.tries) == (ChunkState.RETRY, "CQ", {})
    place.agent()
    # Long before the lease of 600 s ends.
    assert place.results(session) == ["run", "left", "not begun"]
    assert len(note.read_text().splitlines()) == 1


def test_what_outlasts_the_grace_period_is_handed_back(place: Place, tmp_path: Path) -> None:
    agent = place.agent(workers=1, grace_seconds=0.2, lease_seconds=600)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([echo(0), {"do": "wait", "until": str(gate), "note": str(note), "value": 1}])
    until(note.exists)
    assert agent.end(within=15) == 0  # sooner than by default
    assert place.row(session).outcomes == "CQ"
    assert place.row(session).tries == {}
    gate.touch()
    place.agent()
    assert place.results(session) == [0, 1]


def test_a_second_sigterm_makes_it_faster(place: Place, tmp_path: Path) -> None:
    agent = place.agent(workers=1, grace_seconds=600, lease_seconds=600)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([echo(0), {"do": "wait", "until": str(gate), "note": str(note), "value": 1}])
    until(note.exists)
    agent.signal(signal.SIGTERM)
    until(lambda: agent.said("the agent stops"))
    agent.signal(signal.SIGTERM)
    assert agent.process.wait(60) == 0
    gate.touch()
    place.agent()
    assert place.results(session) == [0, 1]


def test_late_results_of_a_zombie_are_never_referenced(place: Place, tmp_path: Path) -> None:
    zombie = place.agent(lease_seconds=3, workers=1)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": "x" * 10}])
    until(note.exists)
    zombie.signal(signal.SIGSTOP)
    place.agent(lease_seconds=3, workers=1)
    until(lambda: place.row(session).attempt == 2)
    gate.touch()
    assert place.results(session) == ["x" * 10]
    zombie.signal(signal.SIGCONT)
    until(lambda: zombie.said("lease"))
    assert place.row(session).attempt == 2
    until(place.is_clean)
    assert result_key(TENANT, session.session_id, 0, 1) not in [
        entry["Key"] for entry in place.s3.list_objects_v2(Bucket=place.mark).get("Contents", [])
    ]
