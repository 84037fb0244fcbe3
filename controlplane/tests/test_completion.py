"""Finished chunks are counted once, announced to whoever asked, and the last one wakes the lifecycle."""

import json

import pytest
from controlplane.tests.world import FAILURE, TENANT, World

from htcgrid_chunks.chunk import Payload
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_dataplane import encode_lines
from htcgrid_events import Account, ChunkOutcome, ChunksFrame, TasksFailed, new_id


def tasks(world: World, session_id: str) -> Account:
    session = world.grid.sessions.read(session_id)
    return world.grid.queries.status(session).account


def connect(world: World, connection: str) -> str:
    subscriber_id = new_id()
    ticket = world.grid.subscribers.issue_ticket(subscriber_id, TENANT, world.clock())
    world.grid.subscribers.connect(ticket.ticket, connection, world.clock())
    return subscriber_id


def pushed(world: World, connection: str) -> list[ChunkOutcome]:
    frames = world.push.frames[connection]
    return [outcome for frame in frames if isinstance(frame, ChunksFrame) for outcome in frame.outcomes]


def test_events_are_counted_once_however_they_come(world: World) -> None:
    session = world.create(2, 3, 1)
    outcomes = world.finish(session, {0: "CC", 1: "CFC", 2: "F"})
    world.record(session, outcomes[:2])
    world.record(session, [*outcomes[:2], outcomes[0]])
    assert tasks(world, session.session_id) == Account(submitted=6, completed=4, failed=1)
    assert world.read(session).end_reason is None
    world.record(session, outcomes[1:])
    assert tasks(world, session.session_id) == Account(submitted=6, completed=4, failed=2)
    assert world.read(session).all_finished


def test_a_session_of_many_buckets_is_done_with_its_last_chunk(world: World) -> None:
    session = world.create(*[1] * 130)
    outcomes = world.finish(session, dict.fromkeys(range(130), "C"))
    world.record(session, outcomes[:128])
    assert world.read(session).full_buckets == {0}
    world.record(session, outcomes[128:129])
    assert not world.read(session).all_finished
    world.record(session, outcomes[129:])
    assert world.read(session).all_finished


@pytest.mark.parametrize("finished_first", [True, False])
def test_a_session_that_is_closed_late_is_done_in_either_order(world: World, finished_first: bool) -> None:
    session = world.create(1, 1, close=False)
    outcomes = world.finish(session, {0: "C", 1: "C"})
    world.record(session, outcomes[:1])
    if finished_first:
        world.record(session, outcomes[1:])
        assert world.read(session).end_reason is None
    world.create(1, 1, session_id=session.session_id)
    if not finished_first:
        assert world.read(session).end_reason is None
        world.record(session, outcomes[1:])
    assert world.read(session).all_finished


def test_failures_are_always_announced_and_completions_on_request(world: World) -> None:
    quiet, loud = world.create(2), world.create(2, publish_completions=True)
    world.events()
    world.record(quiet, world.finish(quiet, {0: "CC"}))
    assert world.events() == []
    world.record(loud, world.finish(loud, {0: "CF"}))
    events = dict(world.events())
    assert set(events) == {"Tasks Failed", "Chunk Completed"}
    assert events["Chunk Completed"]["outcomes"] == "CF"
    failed = TasksFailed.model_validate_json(json.dumps(events["Tasks Failed"]))
    assert (failed.failed, failed.tenant, failed.chunk) == (1, TENANT, 0)
    assert [(task.task_id, task.type, task.message) for task in failed.tasks] == [
        (f"{loud.session_id}_1", FAILURE.type, FAILURE.message)
    ]


def test_failures_in_the_data_plane_are_announced_by_their_number(world: World) -> None:
    session = world.create(3)
    [held] = world.claim(session, 0)
    world.grid.chunks.finish([(held, world.progress("FCF", results=Payload(stored_bytes=9)))])
    world.events()
    world.record(session, [world.row(session).outcome()])
    [(name, detail)] = world.events()
    assert (name, detail["failed"], detail["tasks"]) == ("Tasks Failed", 2, [])


def test_many_failures_alike_fit_on_the_bus(world: World) -> None:
    session = world.create(*[1000] * 10)
    long = FAILURE.model_copy(update={"message": "m" * 2000, "type": "T" * 2000})
    results = Payload(encode_lines([long.model_dump_json().encode()] * 1000))
    held = world.claim(session, *range(10))
    world.grid.chunks.finish([(each, world.progress("F" * 1000, results=results)) for each in held])
    world.events()
    world.record(session, [world.row(session, chunk).outcome() for chunk in range(10)])
    details = [detail for _, detail in world.events()]
    assert [detail["failed"] for detail in details] == [1000] * 10
    assert all(0 < len(detail["tasks"]) < 1000 for detail in details)
    assert world.read(session).all_finished


def test_whoever_follows_a_session_is_pushed_its_outcomes(world: World) -> None:
    session = world.create(1, 1, subscriber_id=connect(world, "one"))
    world.grid.queries.follow(TENANT, session.session_id, connect(world, "two"))
    connect(world, "stranger")
    outcomes = world.finish(session, {0: "C", 1: "F"})
    world.clock.advance(7)
    world.record(session, outcomes)
    assert pushed(world, "one") == pushed(world, "two")
    assert [(outcome.chunk, outcome.results) for outcome in pushed(world, "one")] == [
        (outcome.chunk, outcome.results) for outcome in outcomes
    ]
    assert {outcome.stages.notified_at for outcome in pushed(world, "one")} == {world.clock()}
    assert pushed(world, "stranger") == []


def test_a_connection_that_is_gone_holds_up_nobody(world: World) -> None:
    gone = connect(world, "gone")
    session = world.create(1, 1, subscriber_id=gone)
    world.grid.queries.follow(TENANT, session.session_id, connect(world, "here"))
    world.push.gone.add("gone")
    outcomes = world.finish(session, {0: "C", 1: "C"})
    world.record(session, outcomes[:1])
    assert len(pushed(world, "here")) == 1
    assert world.grid.subscribers.connections([gone]) == {}
    world.record(session, outcomes[1:])
    assert world.read(session).all_finished


def test_results_too_large_for_a_frame_are_left_to_be_fetched(world: World) -> None:
    session = world.create(1, subscriber_id=connect(world, "one"))
    [held] = world.claim(session, 0)
    world.grid.chunks.finish([(held, world.progress("C", results=Payload(b"r" * 130_000)))])
    world.record(session, [world.row(session).outcome()])
    [outcome] = pushed(world, "one")
    assert (outcome.results, outcome.stored_bytes) == (None, 130_000)


def test_events_of_a_session_that_is_not_there_are_not_swallowed(world: World) -> None:
    session = world.create(1)
    outcomes = world.finish(session, {0: "C"})
    with pytest.raises(SessionNotFound):
        world.grid.completions.record(new_id(), outcomes)
