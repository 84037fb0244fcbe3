"""Sessions are taken over whole, repeated requests change nothing, and contradictions are refused."""

import zlib

import pytest
from controlplane.tests.world import TENANT, World, inputs

from htcgrid_controlplane.errors import SessionClosed, SessionConflict, SessionNotFound, UnknownPartition
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import (
    AddChunks,
    ChunkInput,
    ChunkQueued,
    CreateSession,
    Priority,
    SessionOptions,
    SessionState,
    Totals,
    new_id,
)


def add(world: World, session: Session, *sizes: int, first: int = 0, totals: tuple[int, int] | None = None) -> Session:
    closing = Totals(chunks=totals[0], tasks=totals[1]) if totals else None
    request = AddChunks(chunks=inputs(*sizes, first_chunk=first, first_task=10 * first), totals=closing)
    return world.grid.submissions.add(TENANT, session.session_id, request)


def submitted(world: World, session: Session) -> tuple[int, int]:
    status = world.grid.queries.status(world.read(session))
    return status.chunks, status.account.submitted


def test_a_session_is_announced_and_its_chunks_wait(world: World) -> None:
    session = world.create(2, 3, priority="high", max_retries=5, task_timeout_seconds=30)
    assert (session.state, session.totals) == (SessionState.RUNNING, Totals(chunks=2, tasks=5))
    assert world.read(session) == session
    assert [(world.row(session, chunk).first_task, world.row(session, chunk).size) for chunk in (0, 1)] == [
        (0, 2),
        (2, 3),
    ]
    assert sorted(world.messages(Priority.HIGH), key=lambda message: message.chunk) == [
        ChunkQueued(
            session_id=session.session_id, chunk=chunk, tenant=TENANT, max_retries=5, task_timeout_seconds=30
        )
        for chunk in (0, 1)
    ]  # fmt: skip
    [(detail_type, detail)] = world.events()
    assert (detail_type, detail["session_id"]) == ("Session Created", session.session_id)
    assert detail["deadline_at"] == session.deadline_at == world.clock() + 86_400_000
    assert submitted(world, session) == (2, 5)


def test_messages_of_more_than_a_batch_are_all_sent(world: World) -> None:
    world.create(*[1] * 37)
    assert sorted(message.chunk for message in world.messages()) == list(range(37))


def test_a_repeated_creation_changes_nothing_but_the_messages(world: World) -> None:
    session = world.create(2, 3)
    world.messages()
    world.clock.advance(5000)
    again = world.create(2, 3, session_id=session.session_id)
    assert again == session
    assert submitted(world, session) == (2, 5)
    assert sorted(message.chunk for message in world.messages()) == [0, 1]


def test_a_repeated_creation_does_not_reset_what_ran_meanwhile(world: World) -> None:
    session = world.create(2, 3)
    world.finish(session, {0: "CC"})
    row = world.row(session)
    world.create(2, 3, session_id=session.session_id)
    assert world.row(session) == row


def test_an_id_that_is_taken_is_not_taken_over(world: World) -> None:
    session = world.create(2)
    with pytest.raises(SessionConflict):
        world.create(2, session_id=session.session_id, max_retries=9)
    with pytest.raises(SessionConflict):
        world.create(2, 2, session_id=session.session_id)
    with pytest.raises(SessionNotFound):
        world.grid.submissions.create("thief", session.session_id, CreateSession(chunks=inputs(2)))
    assert world.read(session) == session
    assert submitted(world, session) == (1, 2)


def test_there_must_be_such_a_partition(world: World) -> None:
    session_id = new_id()
    with pytest.raises(UnknownPartition):
        world.create(1, session_id=session_id, partition="gpu")
    with pytest.raises(SessionNotFound):
        world.grid.sessions.read(session_id)


@pytest.mark.parametrize("totals", [Totals(chunks=3, tasks=5), Totals(chunks=2, tasks=4), Totals(chunks=1, tasks=2)])
def test_a_creation_whose_totals_contradict_its_chunks_creates_nothing(world: World, totals: Totals) -> None:
    session_id = new_id()
    with pytest.raises(SessionConflict):
        world.grid.submissions.create(TENANT, session_id, CreateSession(chunks=inputs(2, 3), totals=totals))
    with pytest.raises(SessionNotFound):
        world.grid.sessions.read(session_id)
    assert world.events() == []
    assert world.messages() == []


def test_a_session_grows_until_it_is_closed(world: World) -> None:
    session = world.create(4, close=False)
    assert session.state is SessionState.OPEN
    add(world, session, 5, 6, first=1)
    closed = add(world, session, 7, first=3, totals=(4, 22))
    assert (closed.state, closed.totals) == (SessionState.RUNNING, Totals(chunks=4, tasks=22))
    assert add(world, session, 7, first=3, totals=(4, 22)) == closed
    assert submitted(world, session) == (4, 22)
    with pytest.raises(SessionConflict):
        add(world, session, 1, first=4)
    assert submitted(world, session) == (4, 22)


@pytest.mark.parametrize("totals", [(3, 9), (2, 8), (2, 10), (1, 4)])
def test_totals_that_contradict_close_nothing(world: World, totals: tuple[int, int]) -> None:
    session = world.create(4, 5, close=False)
    with pytest.raises(SessionConflict):
        add(world, session, totals=totals)
    now = world.read(session)
    assert (now.state, now.totals) == (SessionState.OPEN, None)
    assert add(world, session, totals=(2, 9)).totals == Totals(chunks=2, tasks=9)


def test_a_chunk_that_was_left_out_is_named(world: World) -> None:
    session = world.create(1, close=False)
    add(world, session, 1, 1, first=2)
    with pytest.raises(SessionConflict, match=r"1 of 4 chunks were not submitted, such as 1\."):
        add(world, session, totals=(4, 4))


def test_the_right_number_of_the_wrong_chunks_does_not_close(world: World) -> None:
    session = world.create(1, close=False)
    add(world, session, 1, first=5)
    with pytest.raises(SessionConflict, match=r"such as 1\."):
        add(world, session, totals=(2, 2))
    with pytest.raises(SessionConflict, match="2 chunks, not 1"):
        add(world, session, totals=(1, 2))
    assert world.read(session).totals is None


def test_a_chunk_beyond_the_totals_of_its_request_is_refused(world: World) -> None:
    session = world.create(1, close=False)
    with pytest.raises(SessionConflict, match="no chunk 7"):
        add(world, session, 1, first=7, totals=(2, 2))
    assert submitted(world, session) == (1, 1)


def test_chunks_of_many_buckets_are_counted_in_each(world: World) -> None:
    session = world.create(*[1] * 300)
    assert session.buckets == 3
    accounts = world.grid.accounts.read(session.session_id, range(3))
    assert [(len(account.submitted), account.expected) for account in accounts] == [(128, 128), (128, 128), (44, 44)]


def test_buckets_are_reserved_before_their_chunks_come(world: World) -> None:
    session = world.create(1, close=False)
    add(world, session, 1, first=200)
    assert world.read(session).buckets == 2
    assert submitted(world, session) == (2, 2)


def test_another_tenant_finds_nothing(world: World) -> None:
    session = world.create(1, close=False)
    with pytest.raises(SessionNotFound):
        world.grid.submissions.add("thief", session.session_id, AddChunks(chunks=inputs(1, first_chunk=1)))
    with pytest.raises(SessionNotFound):
        world.grid.submissions.add(TENANT, new_id(), AddChunks())
    assert submitted(world, session) == (1, 1)


def test_a_stopped_session_takes_no_more_chunks(world: World) -> None:
    session = world.create(1, close=False)
    world.grid.lifecycle.cancel(TENANT, session.session_id)
    with pytest.raises(SessionClosed):
        add(world, session, 1, first=1)
    assert submitted(world, session) == (1, 1)


def test_uploaded_inputs_are_noted_and_not_carried(world: World) -> None:
    chunk = ChunkInput(chunk=0, first_task=0, size=9, stored_bytes=77_000)
    session = world.grid.submissions.create(TENANT, new_id(), CreateSession(chunks=(chunk,)))
    assert (world.row(session).inputs.data, world.row(session).inputs.stored_bytes) == (None, 77_000)


def test_only_a_subscriber_of_the_tenant_may_follow(world: World) -> None:
    mine, foreign = new_id(), new_id()
    world.grid.subscribers.issue_ticket(mine, TENANT, world.clock())
    world.grid.subscribers.issue_ticket(foreign, "another", world.clock())
    assert world.create(1, subscriber_id=mine).subscribers == {mine}
    for subscriber_id in (foreign, new_id()):
        with pytest.raises(SessionConflict):
            world.create(1, subscriber_id=subscriber_id)


def test_a_session_without_options_has_those_that_the_contract_says(world: World) -> None:
    session = world.grid.submissions.create(TENANT, new_id(), CreateSession())
    assert session.options == SessionOptions()
    assert submitted(world, session) == (0, 0)


def test_a_repeated_submission_with_other_tasks_is_refused_and_changes_nothing(world: World) -> None:
    session = world.create(2)
    world.messages()
    stored = world.row(session, 0)
    for other in (zlib.compress(b'{"other":1}\n{"other":2}'), b"not compressed"):
        changed = ChunkInput(chunk=0, first_task=0, size=2, inputs=other)
        request = CreateSession(chunks=(changed,), totals=Totals(chunks=1, tasks=2), options=session.options)
        with pytest.raises(SessionConflict, match=r"Chunk 0 .* with other tasks"):
            world.grid.submissions.create(TENANT, session.session_id, request)
    assert world.row(session, 0) == stored
    assert world.messages() == []
    assert submitted(world, session) == (1, 2)


def test_the_same_tasks_compressed_otherwise_are_the_same_submission(world: World) -> None:
    session = world.create(2)
    data = world.row(session, 0).inputs.data
    assert data is not None
    again = ChunkInput(chunk=0, first_task=0, size=2, inputs=zlib.compress(zlib.decompress(data), level=9))
    assert again.inputs != data
    request = CreateSession(chunks=(again,), totals=Totals(chunks=1, tasks=2), options=session.options)
    world.grid.submissions.create(TENANT, session.session_id, request)
    assert submitted(world, session) == (1, 2)
