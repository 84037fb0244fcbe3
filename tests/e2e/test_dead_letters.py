"""Tasks that fail for good, through the deployed workflow: kept, announced, run again, forgotten."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from htcgrid import JSON, Grid, Session, TaskFailed
from htcgrid_events import INLINE_BYTES, ChunkQueued, DeadLetter, SessionState
from htcgrid_local import LocalGrid
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def fails(message: str) -> JSON:
    return {"do": "raise", "message": message}


def letters(session: Session, count: int) -> list[DeadLetter]:
    """Dead letters of so many tasks, which come a moment after their results."""
    until(lambda: sum(len(letter.tasks) for letter in session.dead_letters()) >= count)
    return list(session.dead_letters())


def test_a_session_that_failed_is_redriven_with_another_event_and_completes(grid: Grid) -> None:
    session = grid.submit([{"value": 1}, fails("no curve of 2026-11-20"), {"value": 3}], chunk_size=3, max_retries=0)
    assert session.wait(timeout=60).state is SessionState.FAILED
    [letter] = letters(session, 1)
    assert (letter.type, letter.message, letter.tasks) == ("LookupError", "no curve of 2026-11-20", (1,))
    assert letter.agent
    assert session.redrive(events={1: {"value": 2}}) == 1
    again = grid.attach(session.id)
    assert again.results(timeout=60) == [1, 2, 3]
    status = again.wait(timeout=60)
    assert status.state is SessionState.COMPLETED
    assert (status.account.submitted, status.account.completed, status.account.failed) == (3, 3, 0)
    assert list(again.dead_letters()) == []
    assert session.redrive() == 0


def test_failures_alike_have_one_fingerprint_and_fail_again_as_they_did(grid: Grid) -> None:
    session = grid.submit([fails(f"no curve {number}") for number in range(60)], chunk_size=7, max_retries=0)
    assert session.wait(timeout=60).account.failed == 60
    [fingerprint] = {letter.fingerprint for letter in letters(session, 60)}
    assert session.redrive(fingerprint="0" * 16) == 0
    assert session.redrive(fingerprint=fingerprint) == 60
    again = grid.attach(session.id)
    until(lambda: again.status().state is SessionState.FAILED)
    assert again.status().account.failed == 60
    assert {letter.fingerprint for letter in letters(again, 60)} == {fingerprint}


def test_a_task_that_fails_beside_a_large_one_is_kept_and_run_again_as_any_other(grid: Grid) -> None:
    large = random.Random(1).randbytes(4 * INLINE_BYTES).hex()
    session = grid.submit([{"value": large}, fails("no curve")], chunk_size=2, max_retries=0)
    session.wait(timeout=60)
    [letter] = letters(session, 1)
    assert (letter.message, letter.tasks) == ("no curve", (1,))
    assert session.redrive(events={1: {"value": 2}}) == 1
    assert grid.attach(session.id).results(timeout=60) == [large, 2]


def test_a_redrive_right_after_the_verdict_misses_nothing(grid: Grid) -> None:
    session = grid.submit([fails("no curve")] * 40, chunk_size=2, max_retries=0)
    session.wait(timeout=60)
    assert session.redrive() == 40
    assert session.cancel().session_id == session.id


def test_purged_letters_do_not_come_back_and_their_tasks_stay_failed(grid: Grid) -> None:
    session = grid.submit([fails("one"), fails("two")], chunk_size=2, max_retries=0)
    session.wait(timeout=60)
    letters(session, 2)
    assert session.purge(tasks=[0]) == 1
    assert [letter.tasks for letter in session.dead_letters()] == [(1,)]
    assert session.redrive(events={1: {"value": 2}}, tasks=[0, 1]) == 1
    again = grid.attach(session.id)
    until(lambda: again.status().state is SessionState.FAILED)
    assert (again.status().account.completed, again.status().account.failed) == (1, 1)
    assert list(again.dead_letters()) == []
    with pytest.raises(TaskFailed):
        again.results(timeout=60)


def test_the_bus_tells_of_letters_and_of_sessions_that_reopen(grid: Grid, local_grid: LocalGrid) -> None:
    told = watch(local_grid, "Task Dead-Lettered", "Session Reopened", "Session Failed", "Session Completed")
    session = grid.submit([fails("no curve")], max_retries=0)
    session.wait(timeout=60)
    [letter] = letters(session, 1)
    session.redrive(events={0: {"value": 1}})
    until(lambda: grid.attach(session.id).status().state is SessionState.COMPLETED)
    seen: dict[str, Any] = {}

    def all_told() -> bool:
        seen.update({name: detail for name, detail in told() if detail["session_id"] == session.id})
        return len(seen) == 4

    until(all_told)
    assert seen["Task Dead-Lettered"]["letters"] == [letter.model_dump(mode="json")]
    assert seen["Session Reopened"]["deadline_at"] >= session.status().created_at
    assert seen["Session Completed"]["account"]["completed"] == 1


def test_a_message_that_nobody_could_deal_with_is_taken_and_its_chunk_is_run_once(
    grid: Grid, local_grid: LocalGrid, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    session = grid.submit([{"do": "sleep", "seconds": 4, "note": str(note), "value": 1}])
    until(note.exists)
    sqs, url = local_grid.client("sqs"), local_grid.outputs["UndeliverableQueueUrl"]
    for session_id in (session.id, "0" * 32):
        message = ChunkQueued(session_id=session_id, chunk=0, tenant="t", task_timeout_seconds=900)
        sqs.send_message(QueueUrl=url, MessageBody=message.model_dump_json())
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def is_empty() -> bool:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return not any(int(attributes[name]) for name in names)

    until(is_empty)
    assert session.results(timeout=60) == [1]
    assert session.wait(timeout=60).state is SessionState.COMPLETED
    assert session.task(0).attempts == 1


def watch(local_grid: LocalGrid, *detail_types: str) -> Any:
    """What is put on the bus from now on, as a function that gives what has come."""
    sqs, events = local_grid.client("sqs"), local_grid.client("events")
    url = sqs.create_queue(QueueName="letters-watcher")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = local_grid.outputs["EventBusName"]
    pattern = {"source": ["htcgrid"], "detail-type": list(detail_types)}
    events.put_rule(Name="letters-watcher", EventBusName=bus, EventPattern=json.dumps(pattern))
    events.put_targets(Rule="letters-watcher", EventBusName=bus, Targets=[{"Id": "watcher", "Arn": arn}])
    allowed = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [allowed]})})

    def told() -> list[tuple[str, Any]]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        found = [json.loads(message["Body"]) for message in messages]
        return [(event["detail-type"], event["detail"]) for event in found]

    return told
