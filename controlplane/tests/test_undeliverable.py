"""Messages that nobody could deal with: their chunks are run, counted or given up, and nothing is decided twice."""

from datetime import timedelta

import pytest
from controlplane.tests.test_dead_letters import record
from controlplane.tests.world import LEASE, TENANT, World

from htcgrid_chunks.state import ChunkState
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.undeliverable import MAX_REDELIVERIES
from htcgrid_events import (
    Account,
    ChunkFinished,
    ChunkQueued,
    FailureKind,
    LeaseAction,
    Priority,
    SessionState,
    new_id,
)


def see_to(world: World, session: Session, chunk: int = 0) -> LeaseAction | None:
    queued = ChunkQueued(session_id=session.session_id, chunk=chunk, tenant=TENANT, task_timeout_seconds=1)
    return world.grid.undelivered.see_to(queued)


def task_events(world: World) -> list[ChunkFinished]:
    return [ChunkFinished.model_validate_json(each) for each in world.drain(world.grid.settings.task_events_queue_url)]


@pytest.fixture
def session(world: World) -> Session:
    session = world.create(2)
    world.messages()
    world.events()
    task_events(world)
    return session


def test_a_chunk_that_waits_gets_another_message_and_is_run(world: World, session: Session) -> None:
    assert see_to(world, session) is LeaseAction.SENT_AGAIN
    assert [message.chunk for message in world.messages()] == [0]
    [(name, detail)] = world.events()
    assert (name, detail["action"], detail["chunk"]) == ("Chunk Recovered", "sent-again", 0)
    world.record(session, world.finish(session, {0: "CC"}))
    assert world.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.COMPLETED


def test_a_chunk_that_nobody_claims_is_given_up_in_the_end_and_its_tasks_become_dead_letters(
    world: World, session: Session
) -> None:
    for _ in range(MAX_REDELIVERIES):
        assert see_to(world, session) is LeaseAction.SENT_AGAIN
    assert see_to(world, session) is LeaseAction.GIVEN_UP
    assert len(world.messages()) == MAX_REDELIVERIES
    [event] = task_events(world)
    assert event.outcome.outcomes == "FF"
    world.record(session, [event.outcome])
    assert world.grid.lifecycle.end(session.session_id, EndReason.DONE).account == Account(submitted=2, failed=2)
    told = record(world, session)
    assert told is not None
    [letter] = told.letters
    assert (letter.kind, letter.tasks) == (FailureKind.LOST, (0, 1))
    assert "No agent could claim" in letter.message
    # The message may come once more.
    assert see_to(world, session) is None
    assert task_events(world) == []


def test_a_chunk_that_was_claimed_meanwhile_begins_anew(world: World, session: Session) -> None:
    for _ in range(MAX_REDELIVERIES):
        see_to(world, session)
    [held] = world.claim(session, 0)
    world.grid.chunks.retry([(held, world.progress("QQ"), world.clock())])
    assert see_to(world, session) is LeaseAction.SENT_AGAIN
    assert world.row(session).redeliveries_in_vain == 1


def test_a_chunk_that_runs_gets_a_message_for_when_its_lease_ends_and_is_never_given_up(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.claim(session, 0)
    waits: list[timedelta] = []
    monkeypatch.setattr(world.grid.undelivered.queues, "send", lambda *sent: waits.append(sent[2][0]), raising=False)
    for _ in range(MAX_REDELIVERIES + 1):
        assert see_to(world, session) is LeaseAction.SENT_AGAIN
    assert set(waits) == {timedelta(milliseconds=LEASE)}
    assert world.row(session).state is ChunkState.RUNNING


def test_a_finished_chunk_is_counted_if_nobody_has(world: World, session: Session) -> None:
    [outcome] = world.finish(session, {0: "CF"})
    assert see_to(world, session) is LeaseAction.COUNTED
    [event] = task_events(world)
    assert event.outcome == outcome
    world.record(session, [event.outcome])
    assert see_to(world, session) is None
    assert task_events(world) == []


def test_chunks_that_others_take_care_of_are_left_to_them(world: World, session: Session) -> None:
    world.grid.holds.pause(TENANT, session.session_id)
    world.grid.holds.follow(session.session_id, 0)
    assert see_to(world, session) is None
    world.grid.lifecycle.cancel(TENANT, session.session_id)
    assert see_to(world, session) is None
    assert see_to(world, session, chunk=5) is None
    queued = ChunkQueued(session_id=new_id(), chunk=0, tenant=TENANT, task_timeout_seconds=1)
    assert world.grid.undelivered.see_to(queued) is None
    assert world.messages() == []
    assert world.messages(Priority.HIGH) == []


def test_a_chunk_that_is_claimed_at_this_moment_is_left_alone(world: World, session: Session) -> None:
    row = world.row(session)
    world.claim(session, 0)
    assert not world.grid.chunks.redeliver(row)
    assert world.grid.giving_up.give_up(row) is None
    assert world.row(session).state is ChunkState.RUNNING
