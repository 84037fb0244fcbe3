"""Pausing and resuming: waiting chunks are paused, running ones finish, and nothing is lost in between."""

import pytest
from tests.support.control_plane_harness import LEASE, TENANT, Harness, inputs

from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import Claim
from htcgrid_controlplane.errors import SessionChanged, SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import AddChunks, SessionState, TaskState, Totals, new_id


def pause(harness: Harness, session: Session) -> Session:
    paused = harness.grid.pausing.pause(TENANT, session.session_id)
    follow(harness, session)
    return paused


def resume(harness: Harness, session: Session) -> Session:
    resumed = harness.grid.pausing.resume(TENANT, session.session_id)
    follow(harness, session)
    return resumed


def follow(harness: Harness, session: Session) -> None:
    bucket: int | None = 0
    while bucket is not None:
        bucket = harness.grid.pausing.follow(session.session_id, bucket)


def claimable(harness: Harness, session: Session, chunk: int) -> bool:
    now = harness.clock()
    claim = Claim(ChunkKey(session.session_id, chunk), "somebody", now, now + LEASE, "message", now, TENANT)
    return harness.grid.chunks.claim([claim])[0][0]


def states(harness: Harness, session: Session) -> list[ChunkState]:
    return [row.state for row in harness.grid.chunks.bucket(session, 0)[0]]


def test_waiting_chunks_of_a_paused_session_cannot_be_claimed_and_a_running_one_finishes(
    harness: Harness,
) -> None:
    session = harness.create(1, 1, 1)
    [lease] = harness.claim(session, 1)
    assert pause(harness, session).paused
    assert states(harness, session) == [ChunkState.PAUSED, ChunkState.RUNNING, ChunkState.PAUSED]
    assert not any(claimable(harness, session, chunk) for chunk in (0, 2))
    assert harness.grid.chunks.finish([(lease, harness.progress("C"))]) == [True]


def test_a_held_chunk_looks_queued_to_its_user_and_the_session_says_that_it_is_paused(
    harness: Harness,
) -> None:
    session = harness.create(1)
    pause(harness, session)
    assert harness.grid.queries.task(TENANT, session.session_id, 0).state is TaskState.QUEUED
    [record] = harness.grid.queries.chunk_page(TENANT, session.session_id, 0, -1).chunks
    assert (record.state, record.claimable_at) == (TaskState.QUEUED, 0)
    assert harness.grid.queries.status(harness.read(session)).paused


def test_a_chunk_that_waits_for_a_retry_is_held_too(harness: Harness) -> None:
    session = harness.create(1)
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.retry([(lease, harness.progress("Q"), harness.clock() + 1_000)])
    pause(harness, session)
    harness.clock.advance(2_000)
    assert not claimable(harness, session, 0)


def test_resuming_makes_held_chunks_claimable_and_gives_them_messages_again(harness: Harness) -> None:
    session = harness.create(1, 1)
    assert len(harness.messages()) == 2
    pause(harness, session)
    resume(harness, session)
    assert sorted(message.chunk for message in harness.messages()) == [0, 1]
    assert all(claimable(harness, session, chunk) for chunk in (0, 1))


def test_a_step_that_was_cut_short_between_release_and_message_sends_it_when_repeated(
    harness: Harness,
) -> None:
    session = harness.create(1)
    pause(harness, session)
    harness.messages()
    harness.grid.pausing.resume(TENANT, session.session_id)
    harness.grid.chunks.resume([harness.row(session)])
    follow(harness, session)
    assert [message.chunk for message in harness.messages()] == [0]


def test_chunks_that_a_paused_session_is_given_wait_without_a_message(harness: Harness) -> None:
    session = harness.create(1, close=False)
    pause(harness, session)
    harness.messages()
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1), totals=Totals(chunks=2, tasks=2))
    harness.grid.submissions.add(TENANT, session.session_id, more)
    assert harness.messages() == []
    assert states(harness, session) == [ChunkState.PAUSED, ChunkState.PAUSED]
    resume(harness, session)
    assert sorted(message.chunk for message in harness.messages()) == [0, 1]


def test_a_submission_that_a_pause_overtakes_is_refused_once_and_then_held(harness: Harness) -> None:
    session = harness.create(1, close=False)
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1))
    believed = harness.read(session)
    pause(harness, session)
    with pytest.raises(SessionChanged):
        harness.grid.submissions._add(believed, more)
    harness.grid.submissions.add(TENANT, session.session_id, more)
    assert states(harness, session) == [ChunkState.PAUSED, ChunkState.PAUSED]


def test_a_submission_that_is_repeated_after_a_resume_is_let_go(harness: Harness) -> None:
    session = harness.create(1, close=False)
    pause(harness, session)
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1))
    harness.grid.submissions.add(TENANT, session.session_id, more)
    harness.grid.sessions.pause(session.session_id, paused=False)
    harness.messages()
    harness.grid.submissions.add(TENANT, session.session_id, more)
    assert [message.chunk for message in harness.messages()] == [1]
    assert claimable(harness, session, 1)


def test_a_step_that_finds_the_session_changed_begins_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    session = harness.create(1)
    harness.grid.pausing.pause(TENANT, session.session_id)
    hold = type(harness.grid.chunks).pause

    def overtaken(store: object, chunks: list[object]) -> list[bool]:
        harness.grid.sessions.pause(session.session_id, paused=False)
        return hold(store, chunks)  # type: ignore[arg-type]

    monkeypatch.setattr(type(harness.grid.chunks), "pause", overtaken)
    assert harness.grid.pausing.follow(session.session_id, 0) == 0
    assert harness.grid.pausing.follow(session.session_id, 0) is None
    assert states(harness, session) == [ChunkState.QUEUED]


def test_a_paused_session_can_be_cancelled_and_its_account_closes(harness: Harness) -> None:
    session = harness.create(2, 1)
    pause(harness, session)
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    assert harness.grid.lifecycle.settle(session.session_id, EndReason.CANCELLED, 0) is None
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.CANCELLED)
    assert ended.state is SessionState.CANCELLED
    assert ended.account is not None
    assert ended.account.cancelled == 3
    assert not harness.grid.queries.status(ended).paused


def test_pausing_tells_the_bus_and_an_ended_session_stays_as_it_is(harness: Harness) -> None:
    session = harness.create(1)
    harness.events()
    pause(harness, session)
    resume(harness, session)
    detail = {"session_id": session.session_id, "tenant": TENANT}
    assert harness.events() == [("Session Paused", detail), ("Session Resumed", detail)]
    harness.record(session, harness.finish(session, {0: "C"}))
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    harness.events()
    assert pause(harness, session) == ended
    assert harness.events() == []


def test_another_tenant_can_neither_pause_nor_resume(harness: Harness) -> None:
    session = harness.create(1)
    for session_id, tenant in ((session.session_id, "tenant-2"), (new_id(), TENANT)):
        with pytest.raises(SessionNotFound):
            harness.grid.pausing.pause(tenant, session_id)
        with pytest.raises(SessionNotFound):
            harness.grid.pausing.resume(tenant, session_id)
    assert not harness.read(session).paused
