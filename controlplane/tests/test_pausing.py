"""Pausing and resuming: waiting chunks are held, running ones finish, and nothing is lost in between."""

import pytest
from controlplane.tests.world import LEASE, TENANT, World, inputs

from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import Claim
from htcgrid_controlplane.errors import SessionChanged, SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import AddChunks, SessionState, TaskState, Totals, new_id


def pause(world: World, session: Session) -> Session:
    paused = world.grid.holds.pause(TENANT, session.session_id)
    follow(world, session)
    return paused


def resume(world: World, session: Session) -> Session:
    resumed = world.grid.holds.resume(TENANT, session.session_id)
    follow(world, session)
    return resumed


def follow(world: World, session: Session) -> None:
    bucket: int | None = 0
    while bucket is not None:
        bucket = world.grid.holds.follow(session.session_id, bucket)


def claimable(world: World, session: Session, chunk: int) -> bool:
    now = world.clock()
    claim = Claim(ChunkKey(session.session_id, chunk), "somebody", now, now + LEASE, "message", now)
    return world.grid.chunks.claim([claim])[0][0]


def states(world: World, session: Session) -> list[ChunkState]:
    return [row.state for row in world.grid.chunks.bucket(session.session_id, 0)[0]]


def test_waiting_chunks_of_a_paused_session_cannot_be_claimed_and_a_running_one_finishes(world: World) -> None:
    session = world.create(1, 1, 1)
    [held] = world.claim(session, 1)
    assert pause(world, session).paused
    assert states(world, session) == [ChunkState.PAUSED, ChunkState.RUNNING, ChunkState.PAUSED]
    assert not any(claimable(world, session, chunk) for chunk in (0, 2))
    assert world.grid.chunks.finish([(held, world.progress("C"))]) == [True]


def test_a_held_chunk_looks_queued_to_its_user_and_the_session_says_that_it_is_paused(world: World) -> None:
    session = world.create(1)
    pause(world, session)
    assert world.grid.queries.task(TENANT, session.session_id, 0).state is TaskState.QUEUED
    [record] = world.grid.queries.chunk_page(TENANT, session.session_id, 0, -1).chunks
    assert (record.state, record.claimable_at) == (TaskState.QUEUED, 0)
    assert world.grid.queries.status(world.read(session)).paused


def test_a_chunk_that_waits_for_a_retry_is_held_too(world: World) -> None:
    session = world.create(1)
    [held] = world.claim(session, 0)
    world.grid.chunks.retry([(held, world.progress("Q"), world.clock() + 1_000)])
    pause(world, session)
    world.clock.advance(2_000)
    assert not claimable(world, session, 0)


def test_resuming_makes_held_chunks_claimable_and_gives_them_messages_again(world: World) -> None:
    session = world.create(1, 1)
    assert len(world.messages()) == 2
    pause(world, session)
    resume(world, session)
    assert sorted(message.chunk for message in world.messages()) == [0, 1]
    assert all(claimable(world, session, chunk) for chunk in (0, 1))


def test_a_step_that_was_cut_short_between_release_and_message_sends_it_when_repeated(world: World) -> None:
    session = world.create(1)
    pause(world, session)
    world.messages()
    world.grid.holds.resume(TENANT, session.session_id)
    world.grid.chunks.release([world.row(session)])
    follow(world, session)
    assert [message.chunk for message in world.messages()] == [0]


def test_chunks_that_a_paused_session_is_given_wait_without_a_message(world: World) -> None:
    session = world.create(1, close=False)
    pause(world, session)
    world.messages()
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1), totals=Totals(chunks=2, tasks=2))
    world.grid.submissions.add(TENANT, session.session_id, more)
    assert world.messages() == []
    assert states(world, session) == [ChunkState.PAUSED, ChunkState.PAUSED]
    resume(world, session)
    assert sorted(message.chunk for message in world.messages()) == [0, 1]


def test_a_submission_that_a_pause_overtakes_is_refused_once_and_then_held(world: World) -> None:
    session = world.create(1, close=False)
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1))
    believed = world.read(session)
    pause(world, session)
    with pytest.raises(SessionChanged):
        world.grid.submissions._add(believed, more)
    world.grid.submissions.add(TENANT, session.session_id, more)
    assert states(world, session) == [ChunkState.PAUSED, ChunkState.PAUSED]


def test_a_submission_that_is_repeated_after_a_resume_is_let_go(world: World) -> None:
    session = world.create(1, close=False)
    pause(world, session)
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1))
    world.grid.submissions.add(TENANT, session.session_id, more)
    world.grid.sessions.pause(session.session_id, paused=False)
    world.messages()
    world.grid.submissions.add(TENANT, session.session_id, more)
    assert [message.chunk for message in world.messages()] == [1]
    assert claimable(world, session, 1)


def test_a_step_that_finds_the_session_changed_begins_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = world.create(1)
    world.grid.holds.pause(TENANT, session.session_id)
    hold = type(world.grid.chunks).hold

    def overtaken(store: object, chunks: list[object]) -> list[bool]:
        world.grid.sessions.pause(session.session_id, paused=False)
        return hold(store, chunks)  # type: ignore[arg-type]

    monkeypatch.setattr(type(world.grid.chunks), "hold", overtaken)
    assert world.grid.holds.follow(session.session_id, 0) == 0
    assert world.grid.holds.follow(session.session_id, 0) is None
    assert states(world, session) == [ChunkState.QUEUED]


def test_a_paused_session_can_be_cancelled_and_its_account_closes(world: World) -> None:
    session = world.create(2, 1)
    pause(world, session)
    world.grid.lifecycle.cancel(TENANT, session.session_id)
    assert world.grid.lifecycle.settle(session.session_id, EndReason.CANCELLED, 0) is None
    ended = world.grid.lifecycle.end(session.session_id, EndReason.CANCELLED)
    assert ended.state is SessionState.CANCELLED
    assert ended.account is not None
    assert ended.account.cancelled == 3
    assert not world.grid.queries.status(ended).paused


def test_pausing_tells_the_bus_and_an_ended_session_stays_as_it_is(world: World) -> None:
    session = world.create(1)
    world.events()
    pause(world, session)
    resume(world, session)
    detail = {"session_id": session.session_id, "tenant": TENANT}
    assert world.events() == [("Session Paused", detail), ("Session Resumed", detail)]
    world.record(session, world.finish(session, {0: "C"}))
    ended = world.grid.lifecycle.end(session.session_id, EndReason.DONE)
    world.events()
    assert pause(world, session) == ended
    assert world.events() == []


def test_another_tenant_can_neither_pause_nor_resume(world: World) -> None:
    session = world.create(1)
    for session_id, tenant in ((session.session_id, "tenant-2"), (new_id(), TENANT)):
        with pytest.raises(SessionNotFound):
            world.grid.holds.pause(tenant, session_id)
        with pytest.raises(SessionNotFound):
            world.grid.holds.resume(tenant, session_id)
    assert not world.read(session).paused
