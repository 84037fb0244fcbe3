"""Chunks whose agents died or whose messages are gone: found, and seen to exactly as they were read."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tests.support.control_plane_harness import AGENT, LEASE, Harness

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.lease_rules import (
    GIVE_UP_AFTER,
    LEASE_SHARDS,
    shard_of,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import ChunkLease
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.recovery import (
    Recovered,
    RecoveryRequest,
)
from htcgrid_controlplane.storage.lease_index import (
    Entry,
    LeaseStore,
)
from htcgrid_dataplane import decode_lines, encode_lines, result_key
from htcgrid_events import Attempt, FailureKind, LeaseAction, TaskError

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType

HOUR = 3_600_000


@pytest.fixture
def harness(own_harness: Harness) -> Harness:
    return own_harness


@pytest.fixture
def leases(harness: Harness) -> LeaseStore:
    return LeaseStore(boto3.client("dynamodb"), harness.grid.settings.chunks_table)


def beat(harness: Harness, leases: Sequence[ChunkLease], duration: int = LEASE) -> None:
    """The heartbeat that puts chunks into the index."""
    assert all(harness.grid.chunks.extend(leases, harness.clock() + duration))


def indexed(harness: Harness, leases: LeaseStore, session: Session) -> list[int]:
    """Chunks of a session that are in the index, whenever their leases end."""
    return sorted(
        entry.key.chunk
        for shard in range(LEASE_SHARDS)
        for entry in leases.expired(shard, harness.clock() + 1_000 * HOUR)[0]
        if entry.key.session_id == session.session_id
    )


def run(harness: Harness, pages: int = 10) -> Recovered:
    """What one run of the workflow does."""
    done = Recovered()
    for shard in range(LEASE_SHARDS):
        after: Entry | None = None
        for _ in range(pages):
            page = harness.grid.recovery.recover_expired(shard, harness.clock(), after)
            done, after = done + page, page.after
            if after is None:
                break
    return done


def lost(harness: Harness, session: Session, *chunks: int) -> list[Chunk]:
    """Chunks whose agent took them, sent a heartbeat, and died: as they are after their leases."""
    beat(harness, harness.claim(session, *chunks))
    harness.clock.advance(LEASE)
    return [harness.row(session, chunk) for chunk in chunks]


def die(harness: Harness, session: Session, times: int, chunk: int = 0) -> None:
    for _ in range(times):
        harness.claim(session, chunk)
        harness.clock.advance(LEASE)


def put_lost(harness: Harness, session: Session, count: int) -> None:
    """Rows as agents leave them that died after a heartbeat, their leases over; without accounts."""
    client, table = boto3.client("dynamodb"), harness.grid.settings.chunks_table
    for first in range(0, count, 25):
        rows = [
            {
                "bucket": {"S": key.partition_key},
                "chunk": {"N": str(key.chunk)},
                "tenant": {"S": session.tenant},
                "state": {"S": "RUNNING"},
                "attempt": {"N": "1"},
                "owner": {"S": AGENT},
                "claimable_at": {"N": str(harness.clock())},
                "lease_shard": {"N": str(shard_of(key))},
                "first_task": {"N": str(key.chunk)},
                "size": {"N": "1"},
                "expires_at": {"N": str(session.expires_at)},
            }
            for key in (ChunkKey(session.session_id, chunk) for chunk in range(first, first + 25))
        ]
        client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": row}} for row in rows]})


def states_of(harness: Harness, session: Session, count: int) -> Counter[str]:
    rows = harness.grid.recovery.leases.read(ChunkKey(session.session_id, chunk) for chunk in range(count))
    return Counter(row.state for row in rows)


def messages_of(harness: Harness) -> int:
    """How many messages lie in the task queue, those included that are not shown yet."""
    names: list[QueueAttributeNameType] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    url = harness.queue_url()
    attributes = harness.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


# --- the index ---


def test_a_chunk_shorter_than_the_first_heartbeat_is_never_in_the_index(harness: Harness, leases: LeaseStore) -> None:
    session = harness.create(2, 2, 2, 2)
    assert indexed(harness, leases, session) == []
    [finished, tried, cancelled, _] = harness.claim(session, 0, 1, 2, 3)
    assert indexed(harness, leases, session) == []
    harness.grid.chunks.finish([(finished, harness.progress("CC"))])
    harness.grid.chunks.retry([(tried, harness.progress("CQ"), harness.clock() + 5)])
    harness.grid.chunks.cancel([harness.row(session, cancelled.key.chunk)], harness.clock())
    assert indexed(harness, leases, session) == []


@pytest.mark.parametrize(
    "sign",
    [
        lambda harness, lease: harness.grid.chunks.extend([lease], harness.clock() + LEASE),
        lambda harness, lease: harness.grid.chunks.checkpoint(
            [(lease, harness.progress("CQ"), harness.clock() + LEASE)]
        ),
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        lambda harness, lease, row: harness.grid.chunks.finish([(lease, harness.progress("CC"))]),
        lambda harness, lease, row: harness.grid.chunks.retry([(lease, harness.progress("CQ"), harness.clock() + 5)]),
        lambda harness, lease, row: harness.grid.chunks.cancel([row], harness.clock()),
    ],
)
def test_a_heartbeat_puts_a_chunk_into_the_index_and_the_end_of_its_attempt_takes_it_out(
    harness: Harness, leases: LeaseStore, sign: Callable[..., list[bool]], end: Callable[..., list[bool]]
) -> None:
    session = harness.create(2)
    [lease] = harness.claim(session, 0)
    assert sign(harness, lease) == [True]
    assert indexed(harness, leases, session) == [0]
    assert end(harness, lease, harness.row(session)) == [True]
    assert indexed(harness, leases, session) == []


def test_a_chunk_that_is_claimed_again_stays_in_the_index_with_its_new_lease(
    harness: Harness, leases: LeaseStore
) -> None:
    session = harness.create(1)
    lost(harness, session, 0)
    harness.claim(session, 0)
    [entry], _ = leases.expired(shard_of(ChunkKey(session.session_id, 0)), harness.clock() + LEASE)
    assert entry.claimable_at == harness.clock() + LEASE


def test_expired_leases_are_found_oldest_first_and_page_by_page(harness: Harness, leases: LeaseStore) -> None:
    session = harness.create(*[1] * 60)
    by_shard = Counter(shard_of(ChunkKey(session.session_id, chunk)) for chunk in range(60))
    [(shard, members)] = by_shard.most_common(1)
    for chunk in range(60):
        beat(harness, harness.claim(session, chunk))
        harness.clock.advance(1)
    before = harness.clock() + LEASE - 30
    found: list[Entry] = []
    after: Entry | None = None
    while True:
        page, after = leases.expired(shard, before, after, limit=2)
        assert len(page) <= 2
        found += page
        if after is None:
            break
    mine = [entry for entry in found if entry.key.session_id == session.session_id]
    assert [entry.claimable_at for entry in mine] == sorted(entry.claimable_at for entry in mine)
    assert {entry.key.chunk for entry in mine} == {
        chunk for chunk in range(30) if shard_of(ChunkKey(session.session_id, chunk)) == shard
    }
    assert members > len(mine)


# --- requeue ---


def test_a_chunk_whose_agent_died_is_queued_again(harness: Harness, leases: LeaseStore) -> None:
    session = harness.create(1, 2, priority="high")
    [before] = lost(harness, session, 1)
    harness.messages(), harness.events()
    assert run(harness) == Recovered(Counter({LeaseAction.REQUEUED: 1}))
    row = harness.row(session, 1)
    assert (row.state, row.attempt, row.outcomes) == (ChunkState.RETRY, 1, "QQ")
    assert harness.clock() <= row.claimable_at <= harness.clock() + 1_000
    assert indexed(harness, leases, session) == []
    [(name, detail)] = harness.events()
    assert (name, detail["action"], detail["attempt"], detail["agent"]) == (
        "Chunk Recovered",
        "requeued",
        1,
        before.owner,
    )
    assert (detail["session_id"], detail["tenant"], detail["chunk"]) == (session.session_id, session.tenant, 1)
    harness.clock.advance(1_000)
    [again] = harness.claim(session, 1, owner="agent-2")
    assert again.attempt == 2
    assert harness.row(session, 1).died == 1


def test_the_message_of_a_requeued_chunk_comes_when_it_may_be_claimed(harness: Harness) -> None:
    sent: list[dict[str, Any]] = []
    session = harness.create(1)
    lost(harness, session, 0)
    harness.grid.recovery.queues._sender._client.meta.events.register(
        "before-parameter-build.sqs.SendMessageBatch", lambda params, **_: sent.extend(params["Entries"])
    )
    replace(harness.grid.recovery, random=lambda: 0.5).recover(
        [ChunkKey(session.session_id, 0)], RecoveryRequest(harness.clock())
    )
    [entry] = sent
    assert entry["DelaySeconds"] == 1
    assert harness.row(session).claimable_at == harness.clock() + 500


def test_the_wait_grows_with_each_death(harness: Harness) -> None:
    session = harness.create(1)
    recovery = replace(harness.grid.recovery, random=lambda: 1.0)
    waits = []
    for _ in range(4):
        harness.claim(session, 0)
        harness.clock.advance(LEASE)
        recovery.recover([ChunkKey(session.session_id, 0)], RecoveryRequest(harness.clock()))
        waits.append(harness.row(session).claimable_at - harness.clock())
        harness.clock.advance(waits[-1])
    assert waits == [1_000, 2_000, 4_000, 8_000]


def test_a_lease_that_was_renewed_is_left_alone(harness: Harness) -> None:
    session = harness.create(1, 1)
    [kept, _] = harness.claim(session, 0, 1)
    beat(harness, [kept], 10 * LEASE)
    harness.clock.advance(LEASE - 1)
    before = [harness.row(session, chunk) for chunk in (0, 1)]
    keys = [row.key for row in before]
    assert harness.grid.recovery.recover(keys, RecoveryRequest(harness.clock())) == Recovered()
    assert [harness.row(session, chunk) for chunk in (0, 1)] == before


@pytest.mark.parametrize("renewed", [True, False])
def test_an_agent_that_comes_back_between_reading_and_writing_keeps_or_loses_its_chunk(
    harness: Harness, leases: LeaseStore, renewed: bool
) -> None:
    session = harness.create(1)
    [lease] = harness.claim(session, 0)
    beat(harness, [lease])
    harness.clock.advance(LEASE)
    seen = harness.row(session)
    if renewed:
        beat(harness, [lease])
    assert leases.requeue([(seen, harness.clock())]) == [not renewed]
    assert harness.grid.chunks.finish([(lease, harness.progress("C"))]) == [renewed]


def test_a_run_that_died_after_requeueing_is_taken_up_by_the_next(harness: Harness, leases: LeaseStore) -> None:
    session = harness.create(1)
    [row] = lost(harness, session, 0)
    harness.messages()
    assert leases.requeue([(row, harness.clock() + 500)]) == [True]
    harness.clock.advance(500)
    assert indexed(harness, leases, session) == [0]
    assert run(harness).actions == {LeaseAction.SENT_AGAIN: 1}
    assert [message.chunk for message in harness.messages()] == [0]
    assert indexed(harness, leases, session) == []
    assert run(harness).actions == {}


def test_two_runs_at_once_queue_a_chunk_once(harness: Harness, leases: LeaseStore) -> None:
    session = harness.create(1)
    [row] = lost(harness, session, 0)
    assert [leases.requeue([(row, harness.clock())]) for _ in range(2)] == [[True], [False]]


@pytest.mark.parametrize("ended", [True, False])
def test_chunks_of_a_session_that_is_stopped_are_left_to_its_lifecycle(
    harness: Harness, leases: LeaseStore, ended: bool
) -> None:
    session = harness.create(1)
    [before] = lost(harness, session, 0)
    harness.messages()
    harness.grid.sessions.stop(session.session_id, EndReason.CANCELLED)
    assert run(harness) == Recovered()
    assert harness.row(session) == before
    assert harness.messages() == []
    assert indexed(harness, leases, session) == []


def test_chunks_that_expire_together_are_queued_again_by_bounded_runs(harness: Harness) -> None:
    session = harness.create(close=False)
    put_lost(harness, session, 3_000)
    runs = [run(harness, pages=1), run(harness, pages=1)]
    assert [done.actions[LeaseAction.REQUEUED] for done in runs] == [1_600, 1_400]
    assert [done.failures for done in runs] == [0, 0]
    assert states_of(harness, session, 3_000) == {ChunkState.RETRY: 3_000}
    assert messages_of(harness) == 3_000


# --- what is stuck ---


def test_a_chunk_that_cannot_be_dealt_with_holds_up_no_other(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    session = harness.create(1, 1, 1)
    lost(harness, session, 0, 1, 2)
    boto3.client("dynamodb").update_item(
        TableName=harness.grid.settings.chunks_table,
        Key={"bucket": {"S": f"{session.session_id}#0"}, "chunk": {"N": "1"}},
        UpdateExpression="SET first_task = :broken",
        ExpressionAttributeValues={":broken": {"S": "which no agent may write"}},
    )
    keys = [ChunkKey(session.session_id, chunk) for chunk in range(3)]
    done = harness.grid.recovery.recover(keys, RecoveryRequest(harness.clock()))
    assert done == Recovered(Counter({LeaseAction.REQUEUED: 2}), failures=1)
    assert [harness.row(session, chunk).state for chunk in (0, 2)] == [ChunkState.RETRY] * 2
    [record] = [each for each in caplog.records if each.getMessage() == "a chunk could not be recovered"]
    assert (record.__dict__["session_id"], record.__dict__["chunk"]) == (session.session_id, 1)


# --- giving up ---


def test_a_chunk_over_which_agents_keep_dying_fails_as_lost_and_is_counted(
    harness: Harness, leases: LeaseStore
) -> None:
    session = harness.create(3)
    [lease] = harness.claim(session, 0)
    tried = Attempt(started_at=1, ended_at=2, agent="agent-0", kind=FailureKind.HANDLER, type="E", message="no")
    noted = harness.progress("CQQ", tries={1: 1}, history={1: (tried,)})
    harness.grid.chunks.checkpoint([(lease, noted, harness.clock() + LEASE)])
    harness.clock.advance(LEASE)
    die(harness, session, GIVE_UP_AFTER + 1)
    harness.events()
    assert run(harness) == Recovered(Counter({LeaseAction.GIVEN_UP: 1}))
    row = harness.row(session)
    assert (row.state, row.outcomes) == (ChunkState.FINISHED, "CFF")
    assert row.results.data
    lines = decode_lines(row.results.data, 3)
    error = TaskError.model_validate_json(lines[1])
    assert lines[0] == b"1"
    assert TaskError.model_validate_json(lines[2]) == error.model_copy(update={"history": ()})
    assert error.history == (tried,)
    assert (error.kind, error.attempts, error.agent) == (FailureKind.LOST, GIVE_UP_AFTER + 2, lease.owner)
    [event] = harness.task_events()
    assert event.outcome == row.outcome()
    harness.record(session, [event.outcome])
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert ended.account
    assert (ended.account.completed, ended.account.failed) == (1, 2)
    assert [detail["action"] for name, detail in harness.events() if name == "Chunk Recovered"] == ["given-up"]
    assert indexed(harness, leases, session) == []


def test_an_agent_whose_chunk_was_given_up_cannot_finish_it(harness: Harness) -> None:
    session = harness.create(1)
    die(harness, session, GIVE_UP_AFTER)
    [lease] = harness.claim(session, 0)
    beat(harness, [lease])
    harness.clock.advance(LEASE)
    assert run(harness).actions == {LeaseAction.GIVEN_UP: 1}
    assert harness.grid.chunks.finish([(lease, harness.progress("C"))]) == [False]
    assert harness.row(session).outcomes == "F"


def test_large_results_of_a_chunk_that_is_given_up_go_on_in_the_data_plane(harness: Harness) -> None:
    session = harness.create(2)
    [lease] = harness.claim(session, 0)
    key = ChunkKey(session.session_id, 0)
    noise = f"{pow(3, 99_999):x}".encode()

    data = encode_lines([b'"' + noise + b'"', b""])
    store = harness.grid.bucket
    store.put(result_key(session.tenant, key.session_id, 0, 1), data)
    stored = harness.progress("CQ", results=Payload(stored_bytes=len(data)))
    harness.grid.chunks.checkpoint([(lease, stored, harness.clock() + LEASE)])
    harness.clock.advance(LEASE)
    die(harness, session, GIVE_UP_AFTER + 1)
    assert run(harness).actions == {LeaseAction.GIVEN_UP: 1}
    row = harness.row(session)
    assert (row.outcomes, row.results_attempt) == ("CF", row.attempt)
    assert row.results.stored_bytes is not None
    lines = decode_lines(
        store.get(result_key(session.tenant, key.session_id, 0, row.attempt), row.results.stored_bytes), 2
    )
    assert lines[0] == b'"' + noise + b'"'
    assert TaskError.model_validate_json(lines[1]).kind is FailureKind.LOST
    assert store.get(result_key(session.tenant, key.session_id, 0, 1), len(data)) == data


def test_results_that_cannot_be_read_are_lost_too(harness: Harness) -> None:

    session = harness.create(2)
    [lease] = harness.claim(session, 0)
    gone = harness.progress("CQ", results=Payload(stored_bytes=9))
    harness.grid.chunks.checkpoint([(lease, gone, harness.clock() + LEASE)])
    harness.clock.advance(LEASE)
    die(harness, session, GIVE_UP_AFTER + 1)
    assert run(harness).actions == {LeaseAction.GIVEN_UP: 1}
    assert harness.row(session).outcomes == "FF"


def test_giving_up_that_was_cut_short_is_taken_up_by_the_next_run(harness: Harness, leases: LeaseStore) -> None:
    session = harness.create(1)
    die(harness, session, GIVE_UP_AFTER)
    [row] = lost(harness, session, 0)
    assert leases.take(row, "control-plane", harness.clock() + LEASE)
    assert run(harness) == Recovered()
    harness.clock.advance(LEASE)
    assert run(harness).actions == {LeaseAction.GIVEN_UP: 1}
    assert harness.row(session).outcomes == "F"
