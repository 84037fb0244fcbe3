"""Every message may come twice, at any time, and the account is exact all the same."""

import json
from typing import Any

import pytest

from htcgrid import Grid
from htcgrid_chunks.chunk import Chunk
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import BUCKET_SIZE, ChunkFinished, ChunkQueued, SessionState
from htcgrid_local import LocalGrid
from tests.e2e.stored import Stored
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def test_every_message_delivered_twice_counts_once(grid: Grid, local_grid: LocalGrid) -> None:
    sqs, stored = local_grid.client("sqs"), Stored(local_grid)
    tasks_url, events_url = (local_grid.outputs[name] for name in ("TaskQueueNormalUrl", "TaskEventsQueueUrl"))
    session = grid.submit([{"value": number} for number in range(60)], chunk_size=3)
    repeat_tasks(sqs, tasks_url, stored.session(session.id), chunks=20)
    assert session.results(timeout=60) == list(range(60))
    rows = finished_chunks(stored, session.id)
    assert len(rows) == 20
    repeat_tasks(sqs, tasks_url, stored.session(session.id), chunks=20)
    for row in rows:
        event = ChunkFinished(session_id=session.id, outcome=row.outcome())
        sqs.send_message(QueueUrl=events_url, MessageBody=event.model_dump_json())
    until(lambda: waiting_messages(sqs, tasks_url) == 0 and waiting_messages(sqs, events_url) == 0)
    status = session.wait(timeout=60)
    assert status.state is SessionState.COMPLETED
    assert (status.account.submitted, status.account.completed, status.account.failed) == (60, 60, 0)
    # What ran again would have another attempt or another time.
    assert finished_chunks(stored, session.id) == rows
    for queue in ("UndeliverableQueueUrl", "TaskEventsDeadLetterQueueUrl"):
        assert waiting_messages(sqs, local_grid.outputs[queue]) == 0


def test_a_session_has_one_lifecycle_though_it_is_announced_twice(grid: Grid, local_grid: LocalGrid) -> None:
    session = grid.submit([{"value": 1}])
    session.wait(timeout=60)
    states = local_grid.client("stepfunctions")
    arn = local_grid.outputs["SessionLifecycleArn"]
    status = session.status()
    detail = {
        "session_id": session.id,
        "tenant": "whoever",
        "options": status.options.model_dump(mode="json"),
        "created_at": status.created_at,
        "deadline_at": status.deadline_at,
    }
    execution = states.start_execution(stateMachineArn=arn, input=json.dumps({"detail": detail}))["executionArn"]
    until(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    history = states.get_execution_history(executionArn=execution)["events"]
    entered = [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]
    assert entered == ["AdoptSession", "WatchedByAnother"]
    assert session.status() == status


def test_nobody_gets_in_without_a_token(local_grid: LocalGrid) -> None:
    import httpx

    url = f"{local_grid.profile.api_url}/sessions/{'0' * 32}"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer of.bad.news"}).status_code == 401


def repeat_tasks(sqs: Any, url: str, session: Session, chunks: int) -> None:
    """Send the message of every chunk once more."""
    for chunk in range(chunks):
        message = ChunkQueued(
            session_id=session.session_id,
            chunk=chunk,
            tenant=session.tenant,
            max_retries=2,
            task_timeout_seconds=900,
        )
        sqs.send_message(QueueUrl=url, MessageBody=message.model_dump_json())


def finished_chunks(stored: Stored, session_id: str) -> list[Chunk]:
    """The rows of the first bucket."""
    rows = stored.rows(session_id)
    assert len(rows) <= BUCKET_SIZE
    return [row for row in rows if row.finished]


def waiting_messages(sqs: Any, url: str) -> int:
    """Messages of a queue, those in flight included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)
