"""The end of a session: woken once in whichever order things come, settled, judged, announced."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tests.support.control_plane_harness import TENANT, Harness, inputs

from htcgrid_chunks.chunk import ChunkKey
from htcgrid_controlplane.errors import AccountOpen, SessionClosed, SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import (
    Account,
    AddChunks,
    FailureKind,
    SessionEndedFrame,
    SessionState,
    TaskState,
    Totals,
    new_id,
)

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.client import SFNClient


@dataclass
class Waiting:
    """An execution of a real workflow that waits for its task token."""

    client: "SFNClient"
    execution: str
    token: str

    def output(self, within: float = 60) -> Any:
        """What the waiting step got, once it was woken."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            description = self.client.describe_execution(executionArn=self.execution)
            if description["status"] == "SUCCEEDED":
                return json.loads(description["output"])
        raise AssertionError(f"the workflow is {description['status']}")

    @property
    def waits(self) -> bool:
        return self.client.describe_execution(executionArn=self.execution)["status"] == "RUNNING"


@pytest.fixture
def waiting(harness: Harness) -> Iterator[Waiting]:
    sqs, client = harness.deliveries, boto3.client("stepfunctions")
    url = sqs.create_queue(QueueName=f"tokens-{new_id()}")["QueueUrl"]
    states = {
        "Wait": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Parameters": {"QueueUrl": url, "MessageBody": {"token.$": "$$.Task.Token"}},
            "TimeoutSeconds": 60,
            "End": True,
        }
    }
    document = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "states.amazonaws.com"}}
    iam, name = boto3.client("iam"), f"waiting-{new_id()}"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="send", PolicyDocument=json.dumps({"Statement": [document]}))
    machine = client.create_state_machine(
        name=name, roleArn=role, definition=json.dumps({"StartAt": "Wait", "States": states})
    )["stateMachineArn"]
    execution = client.start_execution(stateMachineArn=machine)["executionArn"]
    [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    yield Waiting(client, execution, json.loads(message["Body"])["token"])
    client.delete_state_machine(stateMachineArn=machine)
    sqs.delete_queue(QueueUrl=url)


def complete(harness: Harness, session: Session, outcomes: dict[int, str]) -> None:
    harness.record(session, harness.finish(session, outcomes))


def end(harness: Harness, session: Session, reason: EndReason) -> Session:
    return harness.grid.lifecycle.end(session.session_id, reason)


def settle(harness: Harness, session: Session, reason: EndReason = EndReason.CANCELLED, first: int = 0) -> int | None:
    return harness.grid.lifecycle.settle(session.session_id, reason, first)


@pytest.mark.parametrize("token_first", [True, False])
def test_a_session_wakes_its_workflow_when_done_in_either_order(
    harness: Harness, waiting: Waiting, token_first: bool
) -> None:
    session = harness.create(1, 1)
    complete(harness, session, {0: "C"})
    if token_first:
        harness.grid.lifecycle.wait(session.session_id, waiting.token)
        assert waiting.waits
        complete(harness, session, {1: "C"})
    else:
        complete(harness, session, {1: "C"})
        assert waiting.waits
        harness.grid.lifecycle.wait(session.session_id, waiting.token)
    assert waiting.output() == {"reason": "done"}
    harness.grid.lifecycle.wait(session.session_id, waiting.token)
    assert waiting.output() == {"reason": "done"}


@pytest.mark.parametrize("token_first", [True, False])
def test_a_cancelled_session_wakes_its_workflow_in_either_order(
    harness: Harness, waiting: Waiting, token_first: bool
) -> None:
    session = harness.create(1)
    if token_first:
        harness.grid.lifecycle.wait(session.session_id, waiting.token)
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    if not token_first:
        harness.grid.lifecycle.wait(session.session_id, waiting.token)
    assert waiting.output() == {"reason": "cancelled"}


def test_closing_a_session_that_has_finished_already_wakes_its_workflow(harness: Harness, waiting: Waiting) -> None:
    session = harness.create(2, close=False)
    harness.grid.lifecycle.wait(session.session_id, waiting.token)
    complete(harness, session, {0: "CC"})
    assert waiting.waits
    harness.grid.submissions.add(TENANT, session.session_id, AddChunks(totals=Totals(chunks=1, tasks=2)))
    assert waiting.output() == {"reason": "done"}


@pytest.mark.parametrize(("codes", "verdict"), [("CC", SessionState.COMPLETED), ("CF", SessionState.FAILED)])
def test_a_session_that_ran_to_its_end_is_judged_by_its_tasks(
    harness: Harness, codes: str, verdict: SessionState
) -> None:
    session = harness.create(2)
    complete(harness, session, {0: codes})
    harness.clock.advance(9)
    ended = end(harness, session, EndReason.DONE)
    assert (ended.state, ended.ended_at) == (verdict, harness.clock())
    assert ended.account == Account(submitted=2, completed=codes.count("C"), failed=codes.count("F"))
    assert harness.read(session) == ended


def test_a_verdict_is_given_once(harness: Harness) -> None:
    session = harness.create(1)
    complete(harness, session, {0: "C"})
    ended = end(harness, session, EndReason.DONE)
    harness.clock.advance(1)
    for reason in EndReason:
        assert end(harness, session, reason) == ended
    assert settle(harness, session) is None
    assert harness.grid.lifecycle.cancel(TENANT, session.session_id) == ended
    assert harness.read(session) == ended


@pytest.mark.parametrize("reason", EndReason)
def test_an_open_account_is_not_closed(harness: Harness, reason: EndReason) -> None:
    session = harness.create(1, 1)
    complete(harness, session, {0: "C"})
    with pytest.raises(AccountOpen):
        end(harness, session, reason)
    assert not harness.read(session).state.ended
    with pytest.raises(AccountOpen):
        harness.grid.lifecycle.announce(session.session_id)


def test_settling_cancels_what_is_open_and_counts_what_is_not_counted(harness: Harness) -> None:
    session = harness.create(1, 2, 3, 4, 1)
    complete(harness, session, {0: "C"})
    harness.finish(session, {1: "CF"})  # whose event is on its way still
    [running, given_back] = harness.claim(session, 2, 3)
    harness.grid.chunks.retry([(given_back, harness.progress("CQFQ"), harness.clock() + 1000)])
    assert settle(harness, session) is None
    expected = Account(submitted=11, completed=3, failed=2, cancelled=6)
    assert harness.grid.queries.status(harness.read(session)).account == expected
    assert harness.grid.chunks.finish([(running, harness.progress("CCC"))]) == [False]
    assert [harness.row(session, chunk).outcomes for chunk in range(5)] == ["C", "CF", "XXX", "CXFX", "X"]
    assert settle(harness, session) is None
    harness.record(session, [harness.row(session, chunk).outcome() for chunk in range(5)])
    ended = end(harness, session, EndReason.CANCELLED)
    assert (ended.state, ended.account) == (SessionState.CANCELLED, expected)


def test_settling_goes_through_the_buckets_step_by_step(harness: Harness) -> None:
    session = harness.create(1, close=False)
    for first in range(0, 33 * 128, 128):
        harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=first)))
    assert settle(harness, session, EndReason.TIMED_OUT) == 32
    with pytest.raises(AccountOpen):
        end(harness, session, EndReason.TIMED_OUT)
    assert settle(harness, session, EndReason.TIMED_OUT, 32) is None
    ended = end(harness, session, EndReason.TIMED_OUT)
    assert (ended.state, ended.account) == (SessionState.TIMED_OUT, Account(submitted=33, cancelled=33))


def test_a_whole_bucket_is_settled(harness: Harness) -> None:
    session = harness.create(*[3] * 128)
    assert settle(harness, session) is None
    assert end(harness, session, EndReason.CANCELLED).account == Account(submitted=384, cancelled=384)


def test_a_session_cancelled_after_its_last_task_completed_has_completed(harness: Harness) -> None:
    session = harness.create(2, 1)
    harness.finish(session, {0: "CC", 1: "C"})
    assert harness.grid.lifecycle.cancel(TENANT, session.session_id).stop_reason is EndReason.CANCELLED
    assert settle(harness, session) is None
    assert end(harness, session, EndReason.CANCELLED).state is SessionState.COMPLETED


def test_a_session_without_tasks_can_be_cancelled(harness: Harness) -> None:
    session = harness.create(close=False)
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    assert settle(harness, session) is None
    assert end(harness, session, EndReason.CANCELLED).state is SessionState.CANCELLED
    with pytest.raises(SessionClosed):
        harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=inputs(1)))


def test_a_cancelled_session_that_is_said_to_be_done_later_stays_cancelled(harness: Harness) -> None:
    session = harness.create(1)
    settle(harness, session)
    ended = end(harness, session, EndReason.CANCELLED)
    assert end(harness, session, EndReason.DONE) == ended


def test_nobody_else_cancels_a_session(harness: Harness) -> None:
    session = harness.create(1)
    for tenant, session_id in (("thief", session.session_id), (TENANT, new_id())):
        with pytest.raises(SessionNotFound):
            harness.grid.lifecycle.cancel(tenant, session_id)
    assert harness.read(session) == session


def test_a_verdict_is_announced_to_the_bus_the_topic_and_the_subscribers(harness: Harness) -> None:
    me = new_id()
    ticket = harness.grid.subscribers.issue_ticket(me, TENANT, harness.clock())
    harness.grid.subscribers.connect(ticket.ticket, "me", harness.clock())
    session = harness.create(2, subscriber_id=me)
    complete(harness, session, {0: "CC"})
    ended = end(harness, session, EndReason.DONE)
    harness.events()
    harness.push.frames.clear()
    harness.grid.lifecycle.announce(session.session_id)
    [(detail_type, detail)] = harness.events()
    [(attributes, notification)] = harness.notifications()
    [frame] = harness.push.frames["me"]
    assert detail_type == "Session Completed"
    assert (detail["tenant"], detail["account"]) == (TENANT, ended.account.model_dump() if ended.account else None)
    assert notification == frame
    assert attributes == {
        "tenant": TENANT,
        "session_id": session.session_id,
        "kind": "session-ended",
        "state": "COMPLETED",
    }
    assert isinstance(frame, SessionEndedFrame)
    assert (frame.session_id, frame.state, frame.account, frame.ended_at) == (
        session.session_id,
        SessionState.COMPLETED,
        ended.account,
        ended.ended_at,
    )


DAMAGED: dict[str, Any] = {
    "attempt": {"S": "x"},
    "tries": {"S": '{"0": "x"}'},
    "history": {"S": "x"},
    "outcomes": {"S": "Z"},
    "state": {"S": "x"},
    "results_bytes": {"N": "-5"},
    "results_attempt": {"N": "1.5"},
    "finished_at": {"S": "x"},
    "progressed": {"M": {}},
    "returned": {"L": []},
    "message_id": {"N": "1"},
    "function_digests": {"N": "1"},
}
"""What an agent that somebody has taken over may write into a row, and nobody could read."""


@pytest.mark.parametrize("name", DAMAGED)
def test_a_row_that_cannot_be_read_holds_up_no_verdict_and_no_answer(harness: Harness, name: str) -> None:
    session = harness.create(2, 1)
    for chunk in (0, -1):
        boto3.client("dynamodb").update_item(
            TableName=harness.grid.settings.chunks_table,
            Key={"bucket": {"S": ChunkKey(session.session_id, 0).partition_key}, "chunk": {"N": str(chunk)}},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": DAMAGED[name]},
        )
    task = harness.grid.queries.task(TENANT, session.session_id, 1)
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.kind is FailureKind.LOST
    assert harness.grid.queries.task_input(TENANT, session.session_id, 1).inputs is not None
    assert harness.grid.queries.outcomes(TENANT, session.session_id, 0, -1).partial[0].outcomes == "FF"
    assert harness.grid.lifecycle.settle(session.session_id, EndReason.CANCELLED, 0) is None
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.CANCELLED)
    assert ended.account is not None
    assert (ended.account.failed, ended.account.cancelled) == (2, 1)
