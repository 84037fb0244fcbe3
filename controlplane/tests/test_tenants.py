"""Nobody reaches what is another tenant's, or an earlier session's, though an id is used again.

DynamoDB deletes expired rows in no order. Here a session's row goes first, which is the worst that can happen.
"""

from typing import Any

import boto3
import pytest
from tests.support.control_plane_harness import STRANGER, TENANT, Harness, inputs

from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.lease_rules import shard_of
from htcgrid_controlplane.errors import SessionConflict, SessionNotFound, TaskNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.recovery import RecoveryRequest
from htcgrid_events import (
    Account,
    AddChunks,
    ChunkQueued,
    CreateSession,
    PurgeTasks,
    RedriveTasks,
    SessionState,
    new_id,
)

DAY = 86_400_000
FORTNIGHT = 14 * 86_400


def rows(table: str, session: Session) -> list[dict[str, Any]]:
    """What lies under the key of a session's first bucket."""
    found = boto3.client("dynamodb").query(
        TableName=table,
        KeyConditionExpression="#bucket = :bucket",
        ExpressionAttributeNames={"#bucket": "bucket"},
        ExpressionAttributeValues={":bucket": {"S": f"{session.session_id}#0"}},
        ConsistentRead=True,
    )
    return list(found["Items"])


def session_row(harness: Harness, session: Session) -> dict[str, Any]:
    key = {"session_id": {"S": session.session_id}}
    table = harness.grid.settings.sessions_table
    return boto3.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]


def forget(harness: Harness, table: str, *items: dict[str, Any]) -> None:
    """Delete rows as DynamoDB does once they have expired."""
    names = ("session_id",) if table == harness.grid.settings.sessions_table else ("bucket", "chunk")
    for item in items:
        boto3.client("dynamodb").delete_item(TableName=table, Key={name: item[name] for name in names})


def leave_behind(harness: Harness) -> Session:
    """A session with results, failures, dead letters and a running chunk, of which only the row of the session is
    gone."""
    session = harness.create(2, 1, 1, publish_completions=True)
    harness.record(session, harness.finish(session, {0: "CF", 1: "F"}))
    for chunk in (0, 1):
        harness.grid.dead_letters.record(session.session_id, chunk)
    harness.grid.dead_letters.purge(TENANT, session.session_id, PurgeTasks(tasks=(2,)))
    [lease] = harness.claim(session, 2)
    harness.grid.chunks.extend([lease], harness.clock() + 1)
    forget(harness, harness.grid.settings.sessions_table, session_row(harness, session))
    harness.messages()
    harness.events()
    harness.clock.advance(DAY)
    return session


@pytest.fixture(params=[STRANGER, TENANT])
def next_tenant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_rows_that_outlive_their_session_are_not_those_of_the_next(harness: Harness, next_tenant: str) -> None:
    former = leave_behind(harness)
    settings, session_id, grid = harness.grid.settings, former.session_id, harness.grid
    before = [rows(table, former) for table in (settings.chunks_table, settings.dead_letters_table)]
    assert [len(each) for each in before] == [4, 2]
    session = grid.submissions.create(next_tenant, session_id, CreateSession())
    grid.sessions.reserve_buckets(session_id, 1)
    session = grid.sessions.read(session_id)

    assert grid.queries.status(session).account == Account()
    assert grid.queries.chunk_page(next_tenant, session_id, 0, -1).chunks == ()
    assert grid.queries.outcomes(next_tenant, session_id, 0, -1).outcomes == ()
    for question in (grid.queries.task, grid.queries.task_input):
        with pytest.raises(TaskNotFound):
            question(next_tenant, session_id, 0)
    assert grid.dead_letters.page(next_tenant, session_id, 0, -1).letters == ()
    assert grid.dead_letters.purge(next_tenant, session_id, PurgeTasks()).tasks == 0
    assert grid.redrives.redrive(next_tenant, session_id, RedriveTasks()).tasks == 0
    assert grid.dead_letters.record(session_id, 1) is None

    grid.pausing.pause(next_tenant, session_id)
    assert grid.pausing.follow(session_id, 0) is None
    grid.pausing.resume(next_tenant, session_id)
    assert grid.pausing.follow(session_id, 0) is None
    assert grid.recounts.recount(session_id, 0) is None
    harness.events()
    outcomes = [row.outcome() for row in grid.chunks.rows(former, 0) if row.finished]
    assert grid.completions.record(session_id, outcomes) == []
    message = ChunkQueued(session_id=session_id, chunk=2, tenant=TENANT, max_retries=0, task_timeout_seconds=9)
    assert grid.undeliverable.handle(message) is None
    assert (harness.messages(), harness.events(), harness.task_events()) == ([], [], [])

    assert grid.lifecycle.settle(session_id, EndReason.CANCELLED, 0) is None
    ended = grid.lifecycle.end(session_id, EndReason.CANCELLED)
    assert (ended.state, ended.account) == (SessionState.CANCELLED, Account())
    after = [rows(table, former) for table in (settings.chunks_table, settings.dead_letters_table)]
    assert after == before


def test_a_lease_that_outlives_its_session_is_not_recovered_for_the_next(harness: Harness, next_tenant: str) -> None:
    former = leave_behind(harness)
    session_id = former.session_id
    harness.grid.submissions.create(next_tenant, session_id, CreateSession())
    harness.events()
    done = harness.grid.recovery.recover([ChunkKey(session_id, 2)], RecoveryRequest(harness.clock()))
    assert (sum(done.actions.values()), done.failures) == (0, 0)
    assert (harness.messages(), harness.events()) == ([], [])
    row = harness.grid.chunks.read(former, 2)
    assert row is not None
    assert row.owner != "control-plane"
    left, _ = harness.grid.leases.expired(shard_of(row.key), harness.clock())
    assert row.key not in [entry.key for entry in left]


@pytest.mark.parametrize("left", ["chunks", "account"])
def test_rows_that_outlive_their_session_are_not_added_to(harness: Harness, next_tenant: str, left: str) -> None:
    former = leave_behind(harness)
    table = harness.grid.settings.chunks_table
    if left == "account":
        forget(harness, table, *[row for row in rows(table, former) if row["chunk"]["N"] != "-1"])
    before = rows(table, former)
    session = harness.grid.submissions.create(next_tenant, former.session_id, CreateSession())
    with pytest.raises(SessionConflict, match="used for a session before"):
        harness.grid.submissions.add(next_tenant, session.session_id, AddChunks(chunks=inputs(2)))
    assert [row for row in rows(table, former) if row in before] == before
    assert harness.messages() == []
    assert harness.grid.queries.outcomes(next_tenant, session.session_id, 0, -1).outcomes == ()


def test_dead_letters_that_outlive_their_session_are_replaced(harness: Harness) -> None:
    former = leave_behind(harness)
    settings, session_id = harness.grid.settings, former.session_id
    forget(harness, settings.chunks_table, *rows(settings.chunks_table, former))
    session = harness.create(1, 2, session_id=session_id)
    harness.record(session, harness.finish(session, {0: "C", 1: "FF"}))
    assert harness.grid.dead_letters.record(session_id, 0) is None
    told = harness.grid.dead_letters.record(session_id, 1)
    assert told is not None
    page = harness.grid.dead_letters.page(TENANT, session_id, 0, -1)
    assert page.letters == told.letters
    assert [letter.tasks for letter in page.letters] == [(1, 2)]


def test_a_subscriber_whose_row_has_expired_hears_nothing_as_another_tenants(harness: Harness) -> None:
    subscriber_id = new_id()
    grid = harness.grid

    def connect(tenant: str, connection: str) -> None:
        ticket = grid.subscribers.issue_ticket(subscriber_id, tenant, harness.clock())
        grid.subscribers.connect(ticket.ticket, connection, harness.clock())

    connect(TENANT, "owner")
    session = harness.create(1, 1, subscriber_id=subscriber_id)
    boto3.client("dynamodb").delete_item(
        TableName=grid.settings.connections_table, Key={"subscriber_id": {"S": subscriber_id}}
    )
    connect(STRANGER, "stranger")
    harness.record(session, harness.finish(session, {0: "C", 1: "F"}))
    grid.lifecycle.end(session.session_id, EndReason.DONE)
    grid.lifecycle.announce(session.session_id)
    assert harness.push.frames["stranger"] == []


def test_an_id_that_was_used_is_refused_alike_whosever_it_was(harness: Harness) -> None:
    live, expired, mine = harness.create(2), harness.create(2), harness.create(2, session_timeout_seconds=60)
    for _ in range(2):
        refusals = []
        for tenant, session in ((STRANGER, live), (STRANGER, expired), (TENANT, mine)):
            if session is mine and harness.clock() < mine.expires_at * 1000:
                continue
            with pytest.raises(SessionConflict) as refusal:
                harness.grid.submissions.create(tenant, session.session_id, CreateSession(chunks=inputs(2)))
            refusals.append(str(refusal.value).replace(session.session_id, ""))
            assert session_row(harness, session)["tenant"] == {"S": TENANT}
        assert len(set(refusals)) == 1
        harness.clock.now = mine.expires_at * 1000


def test_a_session_past_its_time_is_not_there_though_its_row_is(harness: Harness) -> None:
    session = harness.create(1, session_timeout_seconds=60)
    later = harness.create(1)
    outcomes = harness.finish(session, {0: "C"})
    grid, session_id = harness.grid, session.session_id

    def listed() -> list[str]:
        found, before = list[str](), None
        while True:
            page = grid.queries.sessions_of(TENANT, None, before)
            found += [each.session_id for each in page.sessions]
            before = page.next_before
            if before is None:
                return found

    harness.clock.now = session.expires_at * 1000 - 1
    assert grid.queries.session(TENANT, session_id).session_id == session_id
    assert session_id in listed()
    harness.clock.advance(1)
    assert session_row(harness, session)
    for request in (
        lambda: grid.queries.session(TENANT, session_id),
        lambda: grid.lifecycle.cancel(TENANT, session_id),
        lambda: grid.submissions.add(TENANT, session_id, AddChunks()),
        lambda: grid.completions.record(session_id, outcomes),
    ):
        with pytest.raises(SessionNotFound):
            request()
    assert session_id not in listed()
    assert later.session_id in listed()


def test_the_row_of_a_session_is_the_last_that_expires(harness: Harness) -> None:
    session = harness.create(1)
    harness.record(session, harness.finish(session, {0: "F"}))
    harness.grid.dead_letters.record(session.session_id, 0)
    settings = harness.grid.settings
    others = [
        int(row["expires_at"]["N"])
        for table in (settings.chunks_table, settings.dead_letters_table)
        for row in rows(table, session)
    ]
    assert others == [session.expires_at] * 3
    assert int(session_row(harness, session)["expires_at"]["N"]) == session.expires_at + FORTNIGHT


def test_a_session_of_a_former_release_is_read_by_its_own_expiry(harness: Harness) -> None:
    session = harness.create(1)
    client, settings = boto3.client("dynamodb"), harness.grid.settings
    client.update_item(
        TableName=settings.sessions_table,
        Key={"session_id": {"S": session.session_id}},
        UpdateExpression="SET expires_at = rows_expire_at REMOVE rows_expire_at",
    )
    client.update_item(
        TableName=settings.chunks_table,
        Key={"bucket": {"S": f"{session.session_id}#0"}, "chunk": {"N": "-1"}},
        UpdateExpression="REMOVE tenant",
    )
    assert harness.read(session) == session
    harness.record(session, harness.finish(session, {0: "F"}))
    assert harness.grid.queries.status(harness.read(session)).account == Account(submitted=1, failed=1)


def test_a_row_whose_tenant_was_changed_opens_nothing_of_that_tenant(harness: Harness) -> None:
    grid = harness.grid
    session = grid.submissions.create(STRANGER, new_id(), CreateSession(chunks=inputs(1)))
    client, table = boto3.client("dynamodb"), grid.settings.chunks_table
    client.update_item(
        TableName=table,
        Key={"bucket": {"S": f"{session.session_id}#0"}, "chunk": {"N": "0"}},
        UpdateExpression="SET tenant = :victim, #state = :finished, outcomes = :failed, inputs_bytes = :size, "
        "results_bytes = :size, results_attempt = :one REMOVE inputs",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={
            ":victim": {"S": TENANT},
            ":finished": {"S": "FINISHED"},
            ":failed": {"S": "F"},
            ":size": {"N": "99"},
            ":one": {"N": "1"},
        },
    )
    assert grid.queries.outcomes(STRANGER, session.session_id, 0, -1).outcomes == ()
    assert grid.queries.chunk_page(STRANGER, session.session_id, 0, -1).chunks == ()
    for question in (grid.queries.task, grid.queries.task_input):
        with pytest.raises((TaskNotFound, SessionConflict)):
            question(STRANGER, session.session_id, 0)
