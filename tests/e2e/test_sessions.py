"""Sessions from submission to verdict, through every plane."""

import secrets
import threading
from pathlib import Path

import pytest

from htcgrid import (
    JSON,
    Grid,
    InvalidOption,
    SessionCancelled,
    SessionNotFound,
    SessionTimedOut,
    TaskFailed,
    WaitTimeout,
)
from htcgrid_events import Account, SessionState, TaskState
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def test_results_come_in_the_order_of_the_tasks_and_the_account_closes(grid: Grid) -> None:
    session = grid.submit([{"value": number} for number in range(100)], chunk_size=7)
    assert session.notifications == "websocket"
    assert session.results(timeout=60) == list(range(100))
    status = session.wait(timeout=60)
    assert status.state is SessionState.COMPLETED
    assert (status.account.submitted, status.account.completed, status.account.finished) == (100, 100, 100)
    assert status.chunks == 15


def test_one_task_has_a_record_with_every_stage(grid: Grid) -> None:
    session = grid.submit([{"value": "only"}], priority="high")
    assert session.results(timeout=60) == ["only"]
    session.wait(timeout=60)
    record = session.task(0)
    assert (record.state, record.attempts, record.retries) == (TaskState.COMPLETED, 1, 0)
    assert record.owner
    assert record.message_handle
    assert record.options.priority == "high"
    stages = record.stages
    assert (
        0
        < stages.submitted_at
        <= stages.queued_at
        <= stages.claimed_at
        <= stages.started_at
        <= stages.finished_at
        <= stages.notified_at
    )


def test_five_thousand_tasks(grid: Grid) -> None:
    session = grid.submit({"value": number} for number in range(5_000))
    assert session.results(timeout=120) == list(range(5_000))
    assert session.wait(timeout=60).account.completed == 5_000


def test_several_sessions_at_once_do_not_mix(grid: Grid) -> None:
    results: dict[int, list[object]] = {}

    def run(number: int) -> None:
        tasks: list[JSON] = [{"value": [number, index]} for index in range(40)]
        results[number] = grid.submit(tasks, chunk_size=3).results(timeout=90)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [[number, index] for index in range(40)] for number in range(5)}


def test_a_task_that_fails_is_retried_and_never_completed(grid: Grid) -> None:
    tasks: list[JSON] = [{"value": 1}, {"do": "raise", "message": "no such curve"}, {"value": 3}]
    session = grid.submit(tasks, chunk_size=3, max_retries=1)
    with pytest.raises(TaskFailed, match="no such curve") as failure:
        session.results(timeout=60)
    assert failure.value.type == "LookupError"
    assert failure.value.attempts == 2
    assert any("handler.py" in line for line in failure.value.trace)
    status = session.wait(timeout=60)
    assert status.state is SessionState.FAILED
    assert (status.account.completed, status.account.failed) == (2, 1)
    assert [task.error is None for task in session.as_completed(timeout=60)].count(False) == 1
    assert session.task(1).state is TaskState.FAILED


@pytest.mark.parametrize("value", ["small", "large"])
def test_good_tasks_come_while_a_bad_one_of_their_chunk_is_run_again(grid: Grid, tmp_path: Path, value: str) -> None:
    # Random digits do not compress below the inline limit.
    text = secrets.token_hex(100 if value == "small" else 20_000)
    go_on = tmp_path / "go on"
    good: list[JSON] = [{"value": text}] * 4
    bad: JSON = {"do": "raise_once", "note": str(tmp_path / "raised"), "until": str(go_on), "value": "mended"}
    session = grid.submit([*good[:2], bad, *good[2:]], chunk_size=5, retry_base=0)
    arriving = session.as_completed(timeout=90)
    early = [next(arriving) for _ in range(4)]
    assert {task.index: task.result for task in early} == dict.fromkeys((0, 1, 3, 4), text)
    status = session.status()
    assert (status.state, status.account.finished) == (SessionState.RUNNING, 0)
    go_on.touch()
    assert [(task.index, task.result) for task in arriving] == [(2, "mended")]
    assert session.wait(timeout=60).account == Account(submitted=5, completed=5)
    assert session.results(timeout=60) == [text, text, "mended", text, text]
    assert session.task(2).attempts == 2


def test_a_task_that_runs_too_long_fails_as_timed_out(grid: Grid, tmp_path: Path) -> None:
    task: JSON = {"do": "sleep", "seconds": 60, "note": str(tmp_path / "started")}
    session = grid.submit([task], task_timeout=1, max_retries=0)
    with pytest.raises(TaskFailed) as failure:
        session.results(timeout=60)
    assert failure.value.kind == "timeout"


def test_large_payloads_take_the_data_plane_both_ways(grid: Grid) -> None:
    # Random digits do not compress below the inline limit.
    import random

    digits = random.Random(1)
    large = ["".join(digits.choices("0123456789abcdef", k=400_000)) for _ in range(3)]
    session = grid.submit([{"value": text} for text in large], chunk_size=2)
    assert session.results(timeout=60) == large


def test_a_cancelled_session_ends_with_its_open_tasks_cancelled(grid: Grid, tmp_path: Path) -> None:
    started = tmp_path / "started"
    tasks: list[JSON] = [{"do": "sleep", "seconds": 600, "note": str(started)} for _ in range(20)]
    session = grid.submit(tasks, chunk_size=1)
    until(started.exists)
    session.cancel()
    status = session.wait(timeout=60)
    assert status.state is SessionState.CANCELLED
    assert status.account.cancelled == 20
    assert status.account.closes
    with pytest.raises(SessionCancelled):
        session.results(timeout=60)
    assert session.cancel().state is SessionState.CANCELLED


def test_a_session_past_its_deadline_is_timed_out_and_its_open_tasks_are_cancelled(grid: Grid, tmp_path: Path) -> None:
    tasks: list[JSON] = [{"value": 1}, {"do": "sleep", "seconds": 600, "note": str(tmp_path / "started")}]
    session = grid.submit(tasks, chunk_size=1, timeout=4)
    status = session.wait(timeout=60)
    assert status.state is SessionState.TIMED_OUT
    assert (status.account.completed, status.account.cancelled) == (1, 1)
    with pytest.raises(SessionTimedOut):
        session.results(timeout=60)


def test_a_wait_has_an_end(grid: Grid, tmp_path: Path) -> None:
    session = grid.submit([{"do": "sleep", "seconds": 600, "note": str(tmp_path / "started")}])
    with pytest.raises(WaitTimeout):
        session.wait(timeout=0.5)
    session.cancel()
    assert session.wait(timeout=60).account.cancelled == 1


def test_the_same_submission_twice_is_one_session(grid: Grid) -> None:
    tasks: list[JSON] = [{"value": number} for number in range(30)]
    first = grid.submit(tasks, chunk_size=4)
    again = grid.submit(tasks, chunk_size=4, session_id=first.id)
    assert again.results(timeout=60) == first.results(timeout=60) == list(range(30))
    after = grid.submit(tasks, chunk_size=4, session_id=first.id)
    assert after.results(timeout=60) == list(range(30))
    assert after.wait(timeout=60).account.submitted == 30


def test_another_tenant_neither_sees_nor_cancels_a_session(grid: Grid, stranger: Grid) -> None:
    session = grid.submit([{"value": 1}])
    for session_id in (session.id, "0" * 32):
        with pytest.raises(SessionNotFound):
            stranger.attach(session_id)
    assert session.results(timeout=60) == [1]
    assert session.wait(timeout=60).state is SessionState.COMPLETED


def test_a_partition_that_does_not_exist_is_named(grid: Grid) -> None:
    with pytest.raises(InvalidOption, match=r"gpu.*default"):
        grid.submit([{"value": 1}], partition="gpu")


def test_a_session_is_found_again_by_its_id(grid: Grid, local_grid: object) -> None:
    session = grid.submit([{"value": number} for number in range(20)], chunk_size=5)
    session.wait(timeout=60)
    assert grid.attach(session.id).results(timeout=60) == list(range(20))
