"""The chunks table: each write of a chunk's life is made on its condition alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import boto3
import pytest
from tests.support.control_plane_harness import AGENT, LEASE, TENANT, Harness

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import (
    ChunkLease,
    Claim,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import AddChunks, ChunkInput, Stages


@pytest.fixture
def session(harness: Harness) -> Session:
    return harness.create(3, 2)


def claim(harness: Harness, session: Session, owner: str) -> tuple[bool, Chunk | None]:
    key, now = ChunkKey(session.session_id, 0), harness.clock()
    return harness.grid.chunks.claim([Claim(key, owner, now, now + LEASE, "message", now - 5, TENANT)])[0]


def test_a_row_is_inserted_only_if_absent(harness: Harness, session: Session) -> None:
    before = harness.row(session)
    other = replace(before, tenant="thief", inputs=Payload(b"other"))
    assert harness.grid.chunks.insert([other, replace(other, key=ChunkKey(session.session_id, 200))]) == [
        False,
        True,
    ]
    assert harness.row(session) == before
    assert harness.grid.chunks.read(session, 200) is None
    assert harness.grid.chunks.read(replace(session, tenant="thief"), 200) == replace(
        other, key=ChunkKey(session.session_id, 200)
    )


def test_more_rows_than_a_batch_holds_are_answered_in_their_order(harness: Harness) -> None:
    session = harness.create(close=False)
    rows = [
        Chunk(
            ChunkKey(session.session_id, number),
            TENANT,
            ChunkState.QUEUED,
            number,
            1,
            0,
            Payload(stored_bytes=number),
            "Q",
            expires_at=session.expires_at,
        )
        for number in range(60)
    ]
    assert harness.grid.chunks.insert(rows[::2]) == [True] * 30
    assert harness.grid.chunks.insert(rows) == [False, True] * 30
    assert harness.grid.chunks.bucket(session, 0)[0] == rows


def test_a_claim_takes_a_chunk_that_waits(harness: Harness, session: Session) -> None:
    accepted, row = claim(harness, session, AGENT)
    assert accepted
    assert row == harness.row(session)
    assert row is not None
    assert (row.state, row.attempt, row.owner, row.message_id) == (ChunkState.RUNNING, 1, AGENT, "message")
    assert row.lease_expires_at == harness.clock() + LEASE
    assert (row.stages.claimed_at, row.stages.queued_at) == (harness.clock(), harness.clock() - 5)
    assert row.outcomes == "QQQ"


def test_a_chunk_is_claimed_again_only_when_its_lease_is_past(harness: Harness, session: Session) -> None:
    claim(harness, session, AGENT)
    lease = harness.row(session)
    harness.clock.advance(LEASE - 1)
    accepted, row = claim(harness, session, "agent-2")
    assert not accepted
    assert row == lease == harness.row(session)
    harness.clock.advance(1)
    accepted, row = claim(harness, session, "agent-2")
    assert accepted
    assert row is not None
    assert (row.attempt, row.owner) == (2, "agent-2")


def test_what_has_no_row_cannot_be_claimed(harness: Harness) -> None:
    session = harness.create(close=False)
    nowhere = ChunkKey(session.session_id, 0)
    assert harness.grid.chunks.claim([Claim(nowhere, AGENT, 1, 2, "m", 0, TENANT)]) == [(False, None)]
    assert harness.grid.chunks.read(session, 0) is None


def test_a_row_of_another_tenant_is_not_the_chunk_that_is_claimed(harness: Harness, session: Session) -> None:
    before = harness.row(session)
    now = harness.clock()
    claim = Claim(before.key, AGENT, now, now + LEASE, "message", now, "thief")
    assert harness.grid.chunks.claim([claim]) == [(False, None)]


def test_a_finished_chunk_is_never_claimed_again(harness: Harness, session: Session) -> None:
    harness.finish(session, {0: "CCC"})
    harness.clock.advance(100 * LEASE)
    accepted, row = claim(harness, session, "agent-2")
    assert not accepted
    assert row is not None
    assert row.finished


def test_an_agent_that_is_outrun_by_another_claims_nothing(harness: Harness, session: Session) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: claim(harness, session, f"agent-{number}"), range(8)))
    assert sum(accepted for accepted, _ in answers) == 1
    assert harness.row(session).attempt == 1


def test_a_heartbeat_prolongs_the_lease(harness: Harness, session: Session) -> None:
    leases = harness.claim(session, 0, 1)
    assert harness.grid.chunks.extend(leases, harness.clock() + 5 * LEASE) == [True, True]
    assert harness.row(session).lease_expires_at == harness.clock() + 5 * LEASE
    harness.clock.advance(LEASE)
    assert not claim(harness, session, "agent-2")[0]


def test_a_checkpoint_keeps_outcomes_and_prolongs_the_lease(harness: Harness, session: Session) -> None:
    [lease] = harness.claim(session, 0)
    work = (lease, harness.progress("CQQ", tries={2: 1}), harness.clock() + 5 * LEASE)
    assert harness.grid.chunks.checkpoint([work]) == [True]
    row = harness.row(session)
    assert (row.state, row.outcomes, row.tries) == (ChunkState.RUNNING, "CQQ", {2: 1})
    assert row.lease_expires_at == harness.clock() + 5 * LEASE
    harness.clock.advance(5 * LEASE)
    [again] = harness.claim(session, 0, owner="agent-2")
    assert again.attempt == 2
    assert harness.row(session).outcomes == "CQQ"


def test_what_a_finished_chunk_says_is_kept(harness: Harness, session: Session) -> None:
    [lease] = harness.claim(session, 0)
    progress = harness.progress("CFC", tries={1: 3}, started_at=7, finished_at=9)
    assert harness.grid.chunks.finish([(lease, progress)]) == [True]
    row = harness.row(session)
    assert (row.outcomes, row.results, row.tries) == ("CFC", progress.results, {1: 3})
    assert (row.stages.started_at, row.stages.finished_at, row.claimable_at) == (7, 9, 0)
    assert row.inputs.data is not None


def test_finishing_again_after_a_lost_answer_is_told_as_done(harness: Harness, session: Session) -> None:
    [lease] = harness.claim(session, 0)
    progress = harness.progress("CCC")
    assert harness.grid.chunks.finish([(lease, progress)]) == [True]
    assert harness.grid.chunks.finish([(lease, progress)]) == [True]
    assert harness.grid.chunks.finish([(lease, harness.progress("FFF"))]) == [False]
    assert harness.row(session).outcomes == "CCC"


def test_results_move_to_the_data_plane_under_the_attempt_that_wrote_them(harness: Harness, session: Session) -> None:
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.retry([(lease, harness.progress("CQQ"), harness.clock())])
    assert harness.row(session).results.data is not None
    [lease] = harness.claim(session, 0, owner="agent-2")
    harness.grid.chunks.finish([(lease, harness.progress("CCC", results=Payload(stored_bytes=9000)))])
    row = harness.row(session)
    assert (row.results, row.results_attempt) == (Payload(stored_bytes=9000), 2)


def test_a_retry_is_not_claimable_before_its_time(harness: Harness, session: Session) -> None:
    [lease] = harness.claim(session, 0)
    assert harness.grid.chunks.retry([(lease, harness.progress("CQF", tries={1: 1}), harness.clock() + 500)]) == [True]
    row = harness.row(session)
    assert (row.state, row.outcomes, row.open_offsets, row.tries) == (ChunkState.RETRY, "CQF", [1], {1: 1})
    harness.clock.advance(499)
    assert not claim(harness, session, "agent-2")[0]
    harness.clock.advance(1)
    accepted, row_again = claim(harness, session, "agent-2")
    assert accepted
    assert row_again is not None
    assert (row_again.attempt, row_again.outcomes, row_again.results) == (2, "CQF", row.results)


Write = Callable[[Harness, ChunkLease], list[bool]]
WRITES: dict[str, Write] = {
    "finish": lambda harness, lease: harness.grid.chunks.finish([(lease, harness.progress("FFF"))]),
    "retry": lambda harness, lease: harness.grid.chunks.retry([(lease, harness.progress("QQF"), 0)]),
    "checkpoint": lambda harness, lease: harness.grid.chunks.checkpoint([(lease, harness.progress("CQQ"), 9 * LEASE)]),
    "extend": lambda harness, lease: harness.grid.chunks.extend([lease], harness.clock() + 9 * LEASE),
}


def _taken_by_another(harness: Harness, session: Session) -> None:
    harness.clock.advance(LEASE)
    harness.claim(session, 0, owner="agent-2")


def _taken_by_itself(harness: Harness, session: Session) -> None:
    harness.clock.advance(LEASE)
    harness.claim(session, 0)


def _cancelled(harness: Harness, session: Session) -> None:
    assert harness.grid.chunks.cancel([harness.row(session)], harness.clock()) == [True]


def _given_back(harness: Harness, session: Session) -> None:
    lease = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert harness.grid.chunks.retry([(lease, harness.progress("CQQ"), harness.clock() + 1)]) == [True]


def _finished(harness: Harness, session: Session) -> None:
    lease = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert harness.grid.chunks.finish([(lease, harness.progress("CCC"))]) == [True]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("loss", [_taken_by_another, _taken_by_itself, _cancelled, _given_back, _finished])
def test_who_holds_a_chunk_no_longer_changes_nothing(
    harness: Harness, session: Session, write: str, loss: Callable[[Harness, Session], None]
) -> None:
    [stale] = harness.claim(session, 0)
    loss(harness, session)
    before = harness.row(session)
    assert WRITES[write](harness, stale) == [False]
    assert harness.row(session) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("forged", [{"owner": "agent-2"}, {"attempt": 2}, {"attempt": 0}])
def test_owner_and_attempt_must_both_be_right(
    harness: Harness, session: Session, write: str, forged: dict[str, object]
) -> None:
    [lease] = harness.claim(session, 0)
    before = harness.row(session)
    assert WRITES[write](harness, replace(lease, **forged)) == [False]  # type: ignore[arg-type]
    assert harness.row(session) == before
    assert WRITES[write](harness, lease) == [True]


def test_a_refused_write_does_not_hold_up_the_others_of_its_batch(harness: Harness, session: Session) -> None:
    first, second = harness.claim(session, 0, 1)
    stale = replace(first, attempt=9)
    work = [(stale, harness.progress("CCC")), (second, harness.progress("CC"))]
    assert harness.grid.chunks.finish(work) == [False, True]
    assert harness.row(session, 1).finished
    assert harness.row(session, 0).state is ChunkState.RUNNING


@pytest.mark.parametrize("running", [False, True])
def test_cancelling_ends_open_tasks_and_leaves_outcomes(harness: Harness, session: Session, running: bool) -> None:
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.retry([(lease, harness.progress("CQF"), 0)])
    if running:
        harness.claim(session, 0)
    assert harness.grid.chunks.cancel([harness.row(session)], 77) == [True]
    row = harness.row(session)
    assert (row.state, row.outcomes, row.stages.finished_at, row.claimable_at) == (ChunkState.FINISHED, "CXF", 77, 0)
    assert not claim(harness, session, "agent-2")[0]


def _finishes(harness: Harness, session: Session) -> None:
    lease = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert harness.grid.chunks.finish([(lease, harness.progress("CCC"))]) == [True]


def _prolonged(harness: Harness, session: Session) -> None:
    lease = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert harness.grid.chunks.extend([lease], harness.clock() + 2 * LEASE) == [True]


def _checkpointed(harness: Harness, session: Session) -> None:
    lease = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert harness.grid.chunks.checkpoint([(lease, harness.progress("CQQ"), harness.clock() + 2 * LEASE)]) == [True]


def _given_back_at_the_end_of_its_lease(harness: Harness, session: Session) -> None:
    lease = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert harness.grid.chunks.retry([(lease, harness.progress("CQQ"), harness.row(session).claimable_at)]) == [True]


@pytest.mark.parametrize(
    "change",
    [_taken_by_another, _given_back, _given_back_at_the_end_of_its_lease, _finishes, _prolonged, _checkpointed],
)
def test_cancelling_what_has_changed_meanwhile_is_refused(
    harness: Harness, session: Session, change: Callable[[Harness, Session], None]
) -> None:
    harness.claim(session, 0)
    seen = harness.row(session)
    change(harness, session)
    before = harness.row(session)
    assert harness.grid.chunks.cancel([seen], 77) == [False]
    assert harness.row(session) == before


def test_a_bucket_is_read_in_order_page_by_page_without_its_account(harness: Harness) -> None:
    session = harness.create(close=False)
    big, expires_at = Payload(b"i" * 300_000), session.expires_at
    rows = [
        Chunk(
            ChunkKey(session.session_id, number),
            TENANT,
            ChunkState.QUEUED,
            number,
            1,
            0,
            big,
            "Q",
            stages=Stages(),
            expires_at=expires_at,
        )
        for number in range(128, 136)
    ]
    harness.grid.chunks.insert(rows)
    harness.grid.accounts.expect(session, 1, 8)
    found: list[Chunk] = []
    after: int | None = 127
    while after is not None:
        page, after = harness.grid.chunks.bucket(session, 1, after)
        found += page
    assert found == rows
    assert harness.grid.chunks.bucket(session, 1, 133)[0] == rows[6:]


def attributes(harness: Harness, session: Session) -> set[str]:
    """What the row of chunk 0 has."""
    key = {"bucket": {"S": f"{session.session_id}#0"}, "chunk": {"N": "0"}}
    table = harness.grid.settings.chunks_table
    return set(boto3.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)["Item"])


def test_a_row_says_in_which_store_its_payloads_lie(harness: Harness) -> None:
    session = harness.create(close=False)
    for chunk, store in enumerate(("s3", "redis")):
        given = ChunkInput(chunk=chunk, first_task=chunk, size=1, stored_bytes=9, store=store)
        with_stores = replace(harness.grid.submissions, store_names=frozenset({"s3", "redis"}))
        with_stores.add(TENANT, session.session_id, AddChunks(chunks=(given,)))
        assert harness.row(session, chunk).inputs == Payload(stored_bytes=9, store=store)
    assert "inputs_store" not in attributes(harness, session)


def test_the_results_of_an_attempt_are_where_it_says(harness: Harness, session: Session) -> None:
    """Whatever an earlier one said; and of what lies in S3, as ever, nothing is written."""
    chunks = harness.grid.chunks
    for store in ("s3", "redis", "filesystem", "s3"):
        [lease] = harness.claim(session, 0)
        before = harness.row(session).results
        results = Payload(stored_bytes=9, store=store)
        progress = harness.progress("CQQ", results=results, store_before=before.store)
        assert chunks.checkpoint([(lease, progress, harness.clock() + LEASE)]) == [True]
        assert harness.row(session).results == results
        if before == Payload():
            assert "results_store" not in attributes(harness, session)
        assert chunks.retry([(lease, progress, harness.clock())]) == [True]
        assert harness.row(session).results == results


def test_a_store_that_no_store_can_be_called_is_a_damaged_row(harness: Harness, session: Session) -> None:
    """An agent that was taken over may write anything."""
    [lease] = harness.claim(session, 0)
    progress = harness.progress("CCC", results=Payload(stored_bytes=9, store="a/../b"))
    assert harness.grid.chunks.finish([(lease, progress)]) == [True]
    assert harness.row(session).outcomes == "FFF"
