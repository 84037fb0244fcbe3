"""Open sessions are looked through for what got lost, and left alone while they only wait."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from controlplane.tests.test_redrives import failed, redrive
from tests.support.control_plane_harness import LEASE, TENANT, Harness, inputs

from htcgrid_chunks.state import ChunkState
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.sweep_schedule import (
    INTERVAL,
    SWEEP_SHARDS,
    UNDRAINED,
    overdue,
    sweep_shard_of,
)
from htcgrid_controlplane.services.sweeping import Swept
from htcgrid_controlplane.storage.sweep_index import Due
from htcgrid_events import AddChunks, LeaseAction, new_id

MINUTE = 60_000
FIVE = int(INTERVAL.total_seconds() * 1000)
HOUR = int(UNDRAINED.total_seconds() * 1000)


@pytest.fixture
def harness(own_harness: Harness) -> Harness:
    return own_harness


@pytest.fixture
def execution(harness: Harness) -> Iterator[str]:
    """An execution of a workflow that waits for long."""
    client = boto3.client("stepfunctions")
    wait = {"Type": "Wait", "Seconds": 600, "End": True}
    name = f"waits-{new_id()}"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "states.amazonaws.com"}}
    document = json.dumps({"Statement": [trust]})
    role = boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    machine = client.create_state_machine(
        name=name,
        roleArn=role,
        definition=json.dumps({"StartAt": "W", "States": {"W": wait}}),
    )["stateMachineArn"]
    yield client.start_execution(stateMachineArn=machine)["executionArn"]
    client.delete_state_machine(stateMachineArn=machine)


def run(harness: Harness, room: int = 2_500) -> Swept:
    """What one run of the workflow does."""
    done, before = Swept(), harness.clock()
    sweeping = replace(harness.grid.sweeping, room=room)
    for shard in range(SWEEP_SHARDS):
        after: Due | None = None
        for _ in range(10):
            page = sweeping.sweep(shard, before, after)
            done, after = done + page, page.after
            if after is None:
                break
    return done


def watch(harness: Harness, session: Session, execution: str = "arn:of:one", *, waits: bool = True) -> None:
    """What the lifecycle workflow writes when it begins to wait."""
    boto3.client("dynamodb").update_item(
        TableName=harness.grid.settings.sessions_table,
        Key={"session_id": {"S": session.session_id}},
        UpdateExpression="SET lifecycle_execution = :execution",
        ExpressionAttributeValues={":execution": {"S": execution}},
    )
    if waits:
        harness.grid.sessions.store_token(session.session_id, "of-one")


def row_of(harness: Harness, session: Session) -> dict[str, Any]:
    response = boto3.client("dynamodb").get_item(
        TableName=harness.grid.settings.sessions_table,
        Key={"session_id": {"S": session.session_id}},
        ConsistentRead=True,
    )
    return dict(response["Item"])


def watched(harness: Harness, *sizes: int, **options: Any) -> Session:
    """A session as it is after five minutes whose messages and events are gone."""
    session = harness.create(*sizes, **options)
    watch(harness, session)
    harness.messages(), harness.events()
    harness.clock.advance(FIVE)
    return session


def actions(swept: Swept) -> dict[LeaseAction, int]:
    assert swept.failures == 0
    return {action: count for action, count in swept.actions.items() if count}


def recovered(harness: Harness) -> list[tuple[int, str]]:
    return [(detail["chunk"], detail["action"]) for name, detail in harness.events() if name == "Chunk Recovered"]


# --- which sessions ---


def test_a_session_is_first_swept_after_five_minutes_and_then_every_five(harness: Harness) -> None:
    session = harness.create(1)
    watch(harness, session)
    harness.messages()
    for moments, swept in ((FIVE - 1, 0), (1, 1), (FIVE - 1, 0), (1, 1)):
        harness.clock.advance(moments)
        assert actions(run(harness)).get(LeaseAction.SENT_AGAIN, 0) == swept
        harness.messages()


def test_a_session_with_a_verdict_is_swept_no_more(harness: Harness) -> None:
    session = harness.create(1)
    harness.record(session, harness.finish(session, {0: "C"}))
    harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert not {"open_shard", "sweep_at", "sweep_bucket"} & set(row_of(harness, session))
    harness.clock.advance(FIVE)
    harness.events()
    assert run(harness) == Swept()
    assert harness.events() == []


def test_a_session_that_is_reopened_is_swept_again(harness: Harness) -> None:
    session = failed(harness, "F")
    assert "open_shard" not in row_of(harness, session)
    redrive(harness, session)
    watch(harness, session)
    harness.messages()
    harness.clock.advance(FIVE)
    assert actions(run(harness)) == {LeaseAction.SENT_AGAIN: 1}


def test_one_of_two_runs_sweeps_a_session(harness: Harness) -> None:
    session = watched(harness, 1)
    [due], more = harness.grid.sweeping.store.due(sweep_shard_of(session.session_id), harness.clock(), None, 25)
    assert not more
    assert harness.grid.sweeping.store.take(due, harness.clock() + FIVE)
    assert harness.grid.sweeping.store.take(due, harness.clock() + FIVE) is None
    assert run(harness) == Swept()


def test_a_session_that_cannot_be_swept_holds_up_no_other(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    broken, whole = watched(harness, 1), harness.create(1)
    watch(harness, whole)
    harness.messages()
    harness.clock.advance(FIVE)
    boto3.client("dynamodb").update_item(
        TableName=harness.grid.settings.sessions_table,
        Key={"session_id": {"S": broken.session_id}},
        UpdateExpression="SET options = :broken",
        ExpressionAttributeValues={":broken": {"S": "{"}},
    )
    swept = run(harness)
    assert (swept.failures, swept.actions[LeaseAction.SENT_AGAIN]) == (1, 1)
    [record] = [each for each in caplog.records if each.getMessage() == "a session could not be swept"]
    assert record.__dict__["session_id"] == broken.session_id


def test_more_sessions_than_a_page_holds_are_swept_page_by_page(harness: Harness) -> None:
    for _ in range(30 * SWEEP_SHARDS):
        watch(harness, harness.create(1))
    harness.messages()
    harness.clock.advance(FIVE)
    assert actions(run(harness)) == {LeaseAction.SENT_AGAIN: 30 * SWEEP_SHARDS}


# --- messages and events ---


def test_a_chunk_whose_message_is_gone_gets_another(harness: Harness) -> None:
    session = watched(harness, 1, 1)
    harness.claim(session, 0, lease=HOUR)
    assert actions(run(harness)) == {LeaseAction.SENT_AGAIN: 1}
    assert [message.chunk for message in harness.messages()] == [1]
    assert recovered(harness) == [(1, "sent-again")]


def test_a_chunk_that_was_just_submitted_is_left_alone(harness: Harness) -> None:
    session = watched(harness, 1, close=False)
    harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=1, first_task=1)))
    harness.messages()
    harness.claim(session, 0, lease=HOUR)
    assert actions(run(harness)) == {}


def test_what_never_sent_a_heartbeat_is_queued_again(harness: Harness) -> None:
    session = watched(harness, 1, 1)
    harness.claim(session, 0)
    harness.claim(session, 1, lease=10 * FIVE)
    harness.clock.advance(LEASE + MINUTE)
    assert actions(run(harness)) == {LeaseAction.REQUEUED: 1}
    assert harness.row(session).state is ChunkState.RETRY
    assert recovered(harness) == [(0, "requeued")]


def test_a_retry_whose_message_is_gone_gets_another(harness: Harness) -> None:
    session = watched(harness, 1)
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.retry([(lease, harness.progress("Q"), harness.clock() + 10)])
    harness.clock.advance(MINUTE + 10)
    assert actions(run(harness)) == {LeaseAction.SENT_AGAIN: 1}


def test_a_chunk_that_finished_and_was_not_counted_is_counted(harness: Harness) -> None:
    session = watched(harness, 2)
    harness.finish(session, {0: "CF"})
    harness.clock.advance(MINUTE)
    assert actions(run(harness)) == {LeaseAction.COUNTED: 1}
    [event] = harness.task_events()
    harness.record(session, [event.outcome])
    assert harness.read(session).end_reason is EndReason.DONE
    assert recovered(harness) == [(0, "counted")]
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert ended.account
    assert (ended.account.completed, ended.account.failed) == (1, 1)


def test_an_event_that_waits_to_be_counted_is_not_sent_again(harness: Harness) -> None:
    session = watched(harness, 1)
    harness.finish(session, {0: "C"})
    harness.sqs.send_message(QueueUrl=harness.grid.settings.task_events_queue_url, MessageBody="some event")
    harness.clock.advance(MINUTE)
    assert actions(run(harness)) == {}
    harness.drain(harness.grid.settings.task_events_queue_url)
    harness.clock.advance(FIVE)
    assert actions(run(harness)) == {LeaseAction.COUNTED: 1}


def test_held_chunks_are_left_alone(harness: Harness) -> None:
    session = watched(harness, 1)
    harness.grid.pausing.pause(TENANT, session.session_id)
    harness.grid.pausing.follow(session.session_id, 0)
    assert actions(run(harness)) == {}
    assert harness.messages() == []


def test_chunks_of_a_session_that_is_stopped_are_left_to_its_lifecycle(harness: Harness) -> None:
    session = watched(harness, 1)
    harness.grid.sessions.stop(session.session_id, EndReason.CANCELLED)
    assert run(harness).actions == Counter()
    assert harness.messages() == []


def test_a_session_past_its_time_is_swept_no_more(harness: Harness) -> None:
    session = watched(harness, 1)
    harness.clock.now = session.expires_at * 1000
    assert run(harness).restarted == 0
    assert harness.events() == []
    assert "open_shard" not in row_of(harness, session)


def test_a_bucket_that_is_full_without_its_session_knowing_is_noted(harness: Harness) -> None:
    session = watched(harness, 1)
    outcome = harness.finish(session, {0: "C"})
    harness.grid.accounts.record(session, 0, outcome, harness.clock())
    run(harness)
    assert harness.read(session).full_buckets == {0}


# --- a backlog is not multiplied ---


def test_while_messages_wait_none_is_sent_again_for_an_hour_and_then_for_as_long_as_the_session_is_old() -> None:
    hours = [hour for hour in range(1, 40) if overdue(0, 0, hour * HOUR)]
    assert hours[0] == 1
    swept, moments = 0, []
    for minute in range(5, 40 * 60, 5):
        if overdue(0, swept, minute * MINUTE):
            swept = minute * MINUTE
            moments.append(minute // 60)
    assert moments == [1, 2, 4, 8, 16, 32]


def test_a_backlog_is_left_alone_until_it_is_overdue(harness: Harness) -> None:
    session = watched(harness, 1, 1)
    queue = harness.queue_url(session.options.priority)
    harness.sqs.send_message(QueueUrl=queue, MessageBody="of another session")
    sent = []
    for _ in range(2 * HOUR // FIVE):
        sent.append(actions(run(harness)).get(LeaseAction.SENT_AGAIN, 0))
        harness.clock.advance(FIVE)
    assert [place for place, count in enumerate(sent) if count] == [11, 23], "after one hour and after two"
    assert sum(sent) == 4
    assert recovered(harness) == [], "nobody knows that anything was lost"


def test_a_large_session_is_swept_step_by_step_and_goes_on_where_it_was(harness: Harness) -> None:
    session = harness.create(close=False)
    watch(harness, session)
    for first in range(0, 128 * 12, 128):
        request = AddChunks(chunks=inputs(*[1] * 50, first_chunk=first, first_task=first))
        harness.grid.submissions.add(TENANT, session.session_id, request)
    harness.messages()
    harness.clock.advance(FIVE + MINUTE)
    sent: list[int] = []
    while not sent or sent[-1]:
        sent.append(actions(run(harness, room=40)).get(LeaseAction.SENT_AGAIN, 0))
        harness.clock.advance(MINUTE)
    assert sent == [10 * 50, 2 * 50, 0]
    assert sorted(message.chunk for message in harness.messages()) == [
        first + chunk for first in range(0, 128 * 12, 128) for chunk in range(50)
    ]
    assert "sweep_bucket" not in row_of(harness, session)


# --- the lifecycle workflow ---


def created(harness: Harness) -> list[str]:
    return [detail["session_id"] for name, detail in harness.events() if name == "Session Created"]


def test_a_session_that_nobody_watches_is_announced_again(harness: Harness) -> None:
    session = harness.create(1)
    assert created(harness) == [session.session_id]
    harness.clock.advance(FIVE)
    assert run(harness).restarted == 1
    assert created(harness) == [session.session_id]
    watch(harness, session)
    harness.clock.advance(FIVE)
    assert run(harness).restarted == 0
    assert created(harness) == []


@pytest.mark.parametrize("sign", ["late", "no token", "done"])
def test_a_session_whose_workflow_failed_gets_another(harness: Harness, execution: str, sign: str) -> None:
    session = harness.create(1, session_timeout_seconds=60 if sign == "late" else 86_400)
    watch(harness, session, execution, waits=sign != "no token")
    if sign == "done":
        harness.record(session, harness.finish(session, {0: "C"}))
    harness.messages(), harness.events()
    harness.clock.advance(2 * FIVE)
    assert run(harness).restarted == 0
    assert created(harness) == []
    boto3.client("stepfunctions").stop_execution(executionArn=execution)
    harness.clock.advance(FIVE)
    assert run(harness).restarted == 1
    assert created(harness) == [session.session_id]
    assert "lifecycle_execution" not in row_of(harness, session)


def test_a_session_that_waits_in_peace_is_not_asked_after(harness: Harness, execution: str) -> None:
    session = watched(harness, 1)
    watch(harness, session, execution)
    boto3.client("stepfunctions").stop_execution(executionArn=execution)
    assert run(harness).restarted == 0


def test_a_sweep_waits_while_a_transaction_over_its_session_is_under_way(harness: Harness) -> None:
    session = harness.create(1)
    refused = 0

    def conflict(**_: Any) -> Any:
        nonlocal refused
        refused += 1
        if refused > 2:
            return None
        answer = {"Error": {"Code": "TransactionConflictException", "Message": "busy"}}
        return AWSResponse("", 400, HTTPHeaders(), b""), answer

    harness.clock.advance(FIVE)
    events: Any = harness.grid.sweeping.store._client.meta.events
    events.register("before-call.dynamodb.UpdateItem", conflict)
    try:
        store = harness.grid.sweeping.store
        [due] = store.due(sweep_shard_of(session.session_id), harness.clock(), None, 10)[0]
        assert store.take(due, harness.clock() + FIVE) is not None
    finally:
        events.unregister("before-call.dynamodb.UpdateItem", conflict)
    assert refused == 3
