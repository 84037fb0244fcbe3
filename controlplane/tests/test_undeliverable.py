"""Messages that nobody could deal with: their chunks are run, counted or given up, and nothing is decided twice."""

from datetime import timedelta

import pytest
from controlplane.tests.test_dead_letters import record
from tests.support.control_plane_harness import LEASE, TENANT, Harness

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


def handle(harness: Harness, session: Session, chunk: int = 0) -> LeaseAction | None:
    queued = ChunkQueued(session_id=session.session_id, chunk=chunk, tenant=TENANT, task_timeout_seconds=1)
    return harness.grid.undeliverable.handle(queued)


def task_events(harness: Harness) -> list[ChunkFinished]:
    return [
        ChunkFinished.model_validate_json(each) for each in harness.drain(harness.grid.settings.task_events_queue_url)
    ]


@pytest.fixture
def session(harness: Harness) -> Session:
    session = harness.create(2)
    harness.messages()
    harness.events()
    task_events(harness)
    return session


def test_a_chunk_that_waits_gets_another_message_and_is_run(harness: Harness, session: Session) -> None:
    assert handle(harness, session) is LeaseAction.SENT_AGAIN
    assert [message.chunk for message in harness.messages()] == [0]
    [(name, detail)] = harness.events()
    assert (name, detail["action"], detail["chunk"]) == ("Chunk Recovered", "sent-again", 0)
    harness.record(session, harness.finish(session, {0: "CC"}))
    assert harness.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.COMPLETED


def test_a_chunk_that_nobody_claims_is_given_up_in_the_end_and_its_tasks_become_dead_letters(
    harness: Harness, session: Session
) -> None:
    for _ in range(MAX_REDELIVERIES):
        assert handle(harness, session) is LeaseAction.SENT_AGAIN
    assert handle(harness, session) is LeaseAction.GIVEN_UP
    assert len(harness.messages()) == MAX_REDELIVERIES
    [event] = task_events(harness)
    assert event.outcome.outcomes == "FF"
    harness.record(session, [event.outcome])
    assert harness.grid.lifecycle.end(session.session_id, EndReason.DONE).account == Account(submitted=2, failed=2)
    told = record(harness, session)
    assert told is not None
    [letter] = told.letters
    assert (letter.kind, letter.tasks) == (FailureKind.LOST, (0, 1))
    assert "No agent could claim" in letter.message
    # The message may come once more.
    assert handle(harness, session) is None
    assert task_events(harness) == []


def test_a_chunk_that_was_claimed_meanwhile_begins_anew(harness: Harness, session: Session) -> None:
    for _ in range(MAX_REDELIVERIES):
        handle(harness, session)
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.retry([(lease, harness.progress("QQ"), harness.clock())])
    assert handle(harness, session) is LeaseAction.SENT_AGAIN
    assert harness.row(session).redeliveries_in_vain == 1


def test_a_chunk_that_runs_gets_a_message_for_when_its_lease_ends_and_is_never_given_up(
    harness: Harness, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.claim(session, 0)
    waits: list[timedelta] = []
    monkeypatch.setattr(
        harness.grid.undeliverable.queues, "send", lambda *sent: waits.append(sent[2][0]), raising=False
    )
    for _ in range(MAX_REDELIVERIES + 1):
        assert handle(harness, session) is LeaseAction.SENT_AGAIN
    assert set(waits) == {timedelta(milliseconds=LEASE)}
    assert harness.row(session).state is ChunkState.RUNNING


def test_a_finished_chunk_is_counted_if_nobody_has(harness: Harness, session: Session) -> None:
    [outcome] = harness.finish(session, {0: "CF"})
    assert handle(harness, session) is LeaseAction.COUNTED
    [event] = task_events(harness)
    assert event.outcome == outcome
    harness.record(session, [event.outcome])
    assert handle(harness, session) is None
    assert task_events(harness) == []


def test_chunks_that_others_take_care_of_are_left_to_them(harness: Harness, session: Session) -> None:
    harness.grid.pausing.pause(TENANT, session.session_id)
    harness.grid.pausing.follow(session.session_id, 0)
    assert handle(harness, session) is None
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    assert handle(harness, session) is None
    assert handle(harness, session, chunk=5) is None
    queued = ChunkQueued(session_id=new_id(), chunk=0, tenant=TENANT, task_timeout_seconds=1)
    assert harness.grid.undeliverable.handle(queued) is None
    assert harness.messages() == []
    assert harness.messages(Priority.HIGH) == []


def test_a_chunk_that_is_claimed_at_this_moment_is_left_alone(harness: Harness, session: Session) -> None:
    row = harness.row(session)
    harness.claim(session, 0)
    assert not harness.grid.chunks.redeliver(row)
    assert harness.grid.giving_up.give_up(row) is None
    assert harness.row(session).state is ChunkState.RUNNING
