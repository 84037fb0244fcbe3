"""The chunks table: each write of a chunk's life is made on its condition alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from controlplane.tests.world import AGENT, LEASE, TENANT, World

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
from htcgrid_events import Stages, new_id


@pytest.fixture
def session(world: World) -> Session:
    return world.create(3, 2)


def claim(world: World, session: Session, owner: str) -> tuple[bool, Chunk | None]:
    key, now = ChunkKey(session.session_id, 0), world.clock()
    return world.grid.chunks.claim([Claim(key, owner, now, now + LEASE, "message", now - 5)])[0]


def test_a_row_is_inserted_only_if_absent(world: World, session: Session) -> None:
    before = world.row(session)
    other = replace(before, tenant="thief", inputs=Payload(b"other"))
    assert world.grid.chunks.insert([other, replace(other, key=ChunkKey(session.session_id, 200))], 1) == [False, True]
    assert world.row(session) == before
    assert world.row(session, 200).inputs == Payload(b"other")


def test_more_rows_than_a_batch_holds_are_answered_in_their_order(world: World) -> None:
    rows = [
        Chunk(ChunkKey("5" * 32, number), TENANT, ChunkState.QUEUED, number, 1, 0, Payload(stored_bytes=number), "Q")
        for number in range(60)
    ]
    assert world.grid.chunks.insert(rows[::2], 1) == [True] * 30
    assert world.grid.chunks.insert(rows, 1) == [False, True] * 30
    assert world.grid.chunks.bucket("5" * 32, 0)[0] == rows


def test_a_claim_takes_a_chunk_that_waits(world: World, session: Session) -> None:
    accepted, row = claim(world, session, AGENT)
    assert accepted
    assert row == world.row(session)
    assert row is not None
    assert (row.state, row.attempt, row.owner, row.message_id) == (ChunkState.RUNNING, 1, AGENT, "message")
    assert row.lease_expires_at == world.clock() + LEASE
    assert (row.stages.claimed_at, row.stages.queued_at) == (world.clock(), world.clock() - 5)
    assert row.outcomes == "QQQ"


def test_a_chunk_is_claimed_again_only_when_its_lease_is_past(world: World, session: Session) -> None:
    claim(world, session, AGENT)
    held = world.row(session)
    world.clock.advance(LEASE - 1)
    accepted, row = claim(world, session, "agent-2")
    assert not accepted
    assert row == held == world.row(session)
    world.clock.advance(1)
    accepted, row = claim(world, session, "agent-2")
    assert accepted
    assert row is not None
    assert (row.attempt, row.owner) == (2, "agent-2")


def test_what_has_no_row_cannot_be_claimed(world: World) -> None:
    nowhere = ChunkKey(new_id(), 0)
    assert world.grid.chunks.claim([Claim(nowhere, AGENT, 1, 2, "m", 0)]) == [(False, None)]
    assert world.grid.chunks.read(nowhere) is None


def test_a_finished_chunk_is_never_claimed_again(world: World, session: Session) -> None:
    world.finish(session, {0: "CCC"})
    world.clock.advance(100 * LEASE)
    accepted, row = claim(world, session, "agent-2")
    assert not accepted
    assert row is not None
    assert row.finished


def test_an_agent_that_is_outrun_by_another_claims_nothing(world: World, session: Session) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: claim(world, session, f"agent-{number}"), range(8)))
    assert sum(accepted for accepted, _ in answers) == 1
    assert world.row(session).attempt == 1


def test_a_heartbeat_prolongs_the_lease(world: World, session: Session) -> None:
    held = world.claim(session, 0, 1)
    assert world.grid.chunks.extend(held, world.clock() + 5 * LEASE) == [True, True]
    assert world.row(session).lease_expires_at == world.clock() + 5 * LEASE
    world.clock.advance(LEASE)
    assert not claim(world, session, "agent-2")[0]


def test_a_checkpoint_keeps_outcomes_and_prolongs_the_lease(world: World, session: Session) -> None:
    [held] = world.claim(session, 0)
    work = (held, world.progress("CQQ", tries={2: 1}), world.clock() + 5 * LEASE)
    assert world.grid.chunks.checkpoint([work]) == [True]
    row = world.row(session)
    assert (row.state, row.outcomes, row.tries) == (ChunkState.RUNNING, "CQQ", {2: 1})
    assert row.lease_expires_at == world.clock() + 5 * LEASE
    world.clock.advance(5 * LEASE)
    [again] = world.claim(session, 0, owner="agent-2")
    assert again.attempt == 2
    assert world.row(session).outcomes == "CQQ"


def test_what_a_finished_chunk_says_is_kept(world: World, session: Session) -> None:
    [held] = world.claim(session, 0)
    progress = world.progress("CFC", tries={1: 3}, started_at=7, finished_at=9)
    assert world.grid.chunks.finish([(held, progress)]) == [True]
    row = world.row(session)
    assert (row.outcomes, row.results, row.tries) == ("CFC", progress.results, {1: 3})
    assert (row.stages.started_at, row.stages.finished_at, row.claimable_at) == (7, 9, 0)
    assert row.inputs.data is not None


def test_finishing_again_after_a_lost_answer_is_told_as_done(world: World, session: Session) -> None:
    [held] = world.claim(session, 0)
    progress = world.progress("CCC")
    assert world.grid.chunks.finish([(held, progress)]) == [True]
    assert world.grid.chunks.finish([(held, progress)]) == [True]
    assert world.grid.chunks.finish([(held, world.progress("FFF"))]) == [False]
    assert world.row(session).outcomes == "CCC"


def test_results_move_to_the_data_plane_under_the_attempt_that_wrote_them(world: World, session: Session) -> None:
    [held] = world.claim(session, 0)
    world.grid.chunks.retry([(held, world.progress("CQQ"), world.clock())])
    assert world.row(session).results.data is not None
    [held] = world.claim(session, 0, owner="agent-2")
    world.grid.chunks.finish([(held, world.progress("CCC", results=Payload(stored_bytes=9000)))])
    row = world.row(session)
    assert (row.results, row.results_attempt) == (Payload(stored_bytes=9000), 2)


def test_a_retry_is_not_claimable_before_its_time(world: World, session: Session) -> None:
    [held] = world.claim(session, 0)
    assert world.grid.chunks.retry([(held, world.progress("CQF", tries={1: 1}), world.clock() + 500)]) == [True]
    row = world.row(session)
    assert (row.state, row.outcomes, row.open_offsets, row.tries) == (ChunkState.RETRY, "CQF", [1], {1: 1})
    world.clock.advance(499)
    assert not claim(world, session, "agent-2")[0]
    world.clock.advance(1)
    accepted, row_again = claim(world, session, "agent-2")
    assert accepted
    assert row_again is not None
    assert (row_again.attempt, row_again.outcomes, row_again.results) == (2, "CQF", row.results)


Write = Callable[[World, ChunkLease], list[bool]]
WRITES: dict[str, Write] = {
    "finish": lambda world, held: world.grid.chunks.finish([(held, world.progress("FFF"))]),
    "retry": lambda world, held: world.grid.chunks.retry([(held, world.progress("QQF"), 0)]),
    "checkpoint": lambda world, held: world.grid.chunks.checkpoint([(held, world.progress("CQQ"), 9 * LEASE)]),
    "extend": lambda world, held: world.grid.chunks.extend([held], world.clock() + 9 * LEASE),
}


def _taken_by_another(world: World, session: Session) -> None:
    world.clock.advance(LEASE)
    world.claim(session, 0, owner="agent-2")


def _taken_by_itself(world: World, session: Session) -> None:
    world.clock.advance(LEASE)
    world.claim(session, 0)


def _cancelled(world: World, session: Session) -> None:
    assert world.grid.chunks.cancel([world.row(session)], world.clock()) == [True]


def _given_back(world: World, session: Session) -> None:
    held = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert world.grid.chunks.retry([(held, world.progress("CQQ"), world.clock() + 1)]) == [True]


def _finished(world: World, session: Session) -> None:
    held = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert world.grid.chunks.finish([(held, world.progress("CCC"))]) == [True]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("loss", [_taken_by_another, _taken_by_itself, _cancelled, _given_back, _finished])
def test_who_holds_a_chunk_no_longer_changes_nothing(
    world: World, session: Session, write: str, loss: Callable[[World, Session], None]
) -> None:
    [stale] = world.claim(session, 0)
    loss(world, session)
    before = world.row(session)
    assert WRITES[write](world, stale) == [False]
    assert world.row(session) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("forged", [{"owner": "agent-2"}, {"attempt": 2}, {"attempt": 0}])
def test_owner_and_attempt_must_both_be_right(
    world: World, session: Session, write: str, forged: dict[str, object]
) -> None:
    [held] = world.claim(session, 0)
    before = world.row(session)
    assert WRITES[write](world, replace(held, **forged)) == [False]  # type: ignore[arg-type]
    assert world.row(session) == before
    assert WRITES[write](world, held) == [True]


def test_a_refused_write_does_not_hold_up_the_others_of_its_batch(world: World, session: Session) -> None:
    first, second = world.claim(session, 0, 1)
    stale = replace(first, attempt=9)
    work = [(stale, world.progress("CCC")), (second, world.progress("CC"))]
    assert world.grid.chunks.finish(work) == [False, True]
    assert world.row(session, 1).finished
    assert world.row(session, 0).state is ChunkState.RUNNING


@pytest.mark.parametrize("running", [False, True])
def test_cancelling_ends_open_tasks_and_leaves_outcomes(world: World, session: Session, running: bool) -> None:
    [held] = world.claim(session, 0)
    world.grid.chunks.retry([(held, world.progress("CQF"), 0)])
    if running:
        world.claim(session, 0)
    assert world.grid.chunks.cancel([world.row(session)], 77) == [True]
    row = world.row(session)
    assert (row.state, row.outcomes, row.stages.finished_at, row.claimable_at) == (ChunkState.FINISHED, "CXF", 77, 0)
    assert not claim(world, session, "agent-2")[0]


def _finishes(world: World, session: Session) -> None:
    held = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert world.grid.chunks.finish([(held, world.progress("CCC"))]) == [True]


def _prolonged(world: World, session: Session) -> None:
    held = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert world.grid.chunks.extend([held], world.clock() + 2 * LEASE) == [True]


def _checkpointed(world: World, session: Session) -> None:
    held = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert world.grid.chunks.checkpoint([(held, world.progress("CQQ"), world.clock() + 2 * LEASE)]) == [True]


def _given_back_at_the_end_of_its_lease(world: World, session: Session) -> None:
    held = ChunkLease(ChunkKey(session.session_id, 0), AGENT, 1)
    assert world.grid.chunks.retry([(held, world.progress("CQQ"), world.row(session).claimable_at)]) == [True]


@pytest.mark.parametrize(
    "change",
    [_taken_by_another, _given_back, _given_back_at_the_end_of_its_lease, _finishes, _prolonged, _checkpointed],
)
def test_cancelling_what_has_changed_meanwhile_is_refused(
    world: World, session: Session, change: Callable[[World, Session], None]
) -> None:
    world.claim(session, 0)
    seen = world.row(session)
    change(world, session)
    before = world.row(session)
    assert world.grid.chunks.cancel([seen], 77) == [False]
    assert world.row(session) == before


def test_a_bucket_is_read_in_order_page_by_page_without_its_account(world: World) -> None:
    big = Payload(b"i" * 300_000)
    rows = [
        Chunk(ChunkKey("6" * 32, number), TENANT, ChunkState.QUEUED, number, 1, 0, big, "Q", stages=Stages())
        for number in range(128, 136)
    ]
    world.grid.chunks.insert(rows, 1)
    world.grid.accounts.expect("6" * 32, 1, 8)
    found: list[Chunk] = []
    after: int | None = 127
    while after is not None:
        page, after = world.grid.chunks.bucket("6" * 32, 1, after)
        found += page
    assert found == rows
    assert world.grid.chunks.bucket("6" * 32, 1, 133)[0] == rows[6:]
