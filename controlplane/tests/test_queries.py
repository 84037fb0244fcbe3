"""What an owner may ask, and nobody else."""

import pytest
from controlplane.tests.world import AGENT, FAILURE, LEASE, TENANT, World, inputs

from htcgrid_chunks.chunk import Payload
from htcgrid_controlplane.errors import SessionConflict, SessionNotFound, TaskNotFound
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services import queries
from htcgrid_dataplane import decode_lines, encode_lines, input_key, result_key
from htcgrid_dataplane.s3 import S3Store
from htcgrid_events import (
    Account,
    AddChunks,
    ChunkInput,
    OutcomePage,
    StopReason,
    TaskRecord,
    TaskState,
    Totals,
    new_id,
)


def page(world: World, session: Session, after: int = -1, bucket: int = 0) -> OutcomePage:
    return world.grid.queries.outcomes(TENANT, session.session_id, bucket, after)


def task(world: World, session: Session, index: int) -> TaskRecord:
    return world.grid.queries.task(TENANT, session.session_id, index)


def test_another_tenant_and_an_unknown_id_are_not_told_apart(world: World) -> None:
    session = world.create(1)
    ask = world.grid.queries
    messages = set()
    for tenant, session_id in (("thief", session.session_id), (TENANT, "0" * 32)):
        for question in (
            lambda: ask.session(tenant, session_id),  # noqa: B023 - asked at once
            lambda: ask.outcomes(tenant, session_id, 0, -1),  # noqa: B023
            lambda: ask.task(tenant, session_id, 0),  # noqa: B023
            lambda: ask.task_input(tenant, session_id, 0),  # noqa: B023
            lambda: ask.follow(tenant, session_id, new_id()),  # noqa: B023
        ):
            with pytest.raises(SessionNotFound) as refusal:
                question()
            messages.add(str(refusal.value).replace(session_id, ""))
    assert len(messages) == 1


def test_the_status_of_a_session_follows_its_account(world: World) -> None:
    session = world.create(2, 1, close=False)
    assert world.grid.queries.status(session).account == Account(submitted=3)
    world.record(session, world.finish(session, {0: "CF"}))
    status = world.grid.queries.status(world.read(session))
    assert (status.account, status.chunks) == (Account(submitted=3, completed=1, failed=1), 2)
    assert status.stop_reason is None
    stopped = world.grid.queries.status(world.grid.lifecycle.cancel(TENANT, session.session_id))
    assert stopped.stop_reason is StopReason.CANCELLED


def test_outcomes_come_when_counted_in_order_with_their_results(world: World) -> None:
    session = world.create(1, 2, 1)
    outcomes = world.finish(session, {2: "C", 0: "C", 1: "CF"})
    assert page(world, session).outcomes == ()
    world.clock.advance(3)
    world.record(session, [outcome for outcome in outcomes if outcome.chunk != 1])
    found = page(world, session).outcomes
    assert [outcome.chunk for outcome in found] == [0, 2]
    assert {outcome.stages.notified_at for outcome in found} == {world.clock()}
    assert found[0].results == world.row(session, 0).results.data
    world.record(session, outcomes)
    assert [outcome.chunk for outcome in page(world, session).outcomes] == [0, 1, 2]
    assert [outcome.chunk for outcome in page(world, session, after=1).outcomes] == [2]
    assert page(world, session, bucket=3) == OutcomePage(outcomes=(), next_after=None)


def test_outcomes_come_in_pages_of_bounded_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = world.create(*[1] * 5)
    held = world.claim(session, *range(5))
    world.grid.chunks.finish([(each, world.progress("C", results=Payload(b"r" * 400))) for each in held])
    world.record(session, [world.row(session, chunk).outcome() for chunk in range(5)])
    monkeypatch.setattr(queries, "_PAGE_BYTES", 1000)
    pages, after = [], -1
    while True:
        answer = page(world, session, after)
        pages.append([outcome.chunk for outcome in answer.outcomes])
        if answer.next_after is None:
            break
        after = answer.next_after
    assert pages == [[0, 1], [2, 3], [4]]
    monkeypatch.setattr(queries, "_PAGE_BYTES", 10)
    assert [outcome.chunk for outcome in page(world, session).outcomes] == [0]


def test_large_results_come_as_a_link_to_the_attempt_that_counts(world: World) -> None:
    session = world.create(2)
    world.claim(session, 0)
    world.clock.advance(LEASE)
    [held] = world.claim(session, 0)
    world.grid.chunks.finish([(held, world.progress("CF", results=Payload(stored_bytes=5)))])
    world.record(session, [world.row(session).outcome()])
    [outcome] = page(world, session).outcomes
    assert outcome.results is None
    assert outcome.url is not None
    assert result_key(TENANT, session.session_id, 0, 2) in outcome.url
    assert "X-Amz-Signature" in outcome.url


def test_a_task_is_found_by_halving_in_chunks_of_any_size(world: World) -> None:
    sizes = [3, 1, 1, 7, 2, 5]
    session = world.create(*sizes)
    expected = [chunk for chunk, size in enumerate(sizes) for _ in range(size)]
    assert [task(world, session, index).chunk for index in range(sum(sizes))] == expected
    with pytest.raises(TaskNotFound):
        task(world, session, sum(sizes))
    with pytest.raises(TaskNotFound):
        task(world, world.create(close=False), 0)


def test_a_task_in_a_later_bucket_is_found(world: World) -> None:
    session = world.create(4, close=False)
    request = AddChunks(chunks=inputs(4, first_chunk=700, first_task=2800))
    world.grid.submissions.add(TENANT, session.session_id, request)
    assert task(world, session, 2803).chunk == 700
    with pytest.raises(TaskNotFound):
        task(world, session, 100)


def test_the_record_of_a_task_tells_its_way(world: World) -> None:
    session = world.create(2, 3, max_retries=2)
    waiting = task(world, session, 3)
    assert (waiting.state, waiting.owner, waiting.attempts) == (TaskState.QUEUED, None, 0)
    assert (waiting.lease_expires_at, waiting.message_handle, waiting.error) == (None, None, None)
    [held] = world.claim(session, 1)
    running = task(world, session, 3)
    assert (running.state, running.owner, running.attempts) == (TaskState.RUNNING, AGENT, 1)
    assert (running.lease_expires_at, running.message_handle) == (world.clock() + LEASE, "message-1")
    world.grid.chunks.retry([(held, world.progress("CQF", tries={1: 1, 2: 3}), world.clock())])
    states = [task(world, session, index).state for index in (2, 3, 4)]
    assert states == [TaskState.COMPLETED, TaskState.RETRY, TaskState.FAILED]
    assert [task(world, session, index).retries for index in (2, 3, 4)] == [0, 1, 2]
    assert task(world, session, 4).error == FAILURE
    assert task(world, session, 3).task_id == f"{session.session_id}_3"
    world.clock.advance(50)
    world.record(session, world.finish(session, {1: "CCF"}))
    done = task(world, session, 3)
    assert (done.state, done.attempts, done.error) == (TaskState.COMPLETED, 2, None)
    assert (done.stages.notified_at, done.stages.submitted_at) == (world.clock(), session.created_at)


def test_what_a_task_was_given_is_kept_after_its_end(world: World) -> None:
    session = world.create(2, 3)
    world.record(session, world.finish(session, {0: "CC", 1: "CFC"}))
    found = world.grid.queries.task_input(TENANT, session.session_id, 3)
    assert (found.index, found.line, found.lines, found.url) == (3, 1, 3, None)
    assert found.inputs is not None
    assert decode_lines(found.inputs, found.lines)[found.line] == b"{}"
    with pytest.raises(TaskNotFound):
        world.grid.queries.task_input(TENANT, session.session_id, 5)


def test_large_inputs_come_as_a_link(world: World) -> None:
    session = world.create(close=False)
    stored = ChunkInput(chunk=0, first_task=0, size=2, stored_bytes=9)
    world.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=(stored,)))
    found = world.grid.queries.task_input(TENANT, session.session_id, 1)
    assert (found.line, found.lines, found.inputs) == (1, 2, None)
    assert found.url is not None
    assert input_key(TENANT, session.session_id, 0) in found.url
    assert "X-Amz-Signature" in found.url


def test_an_error_is_read_from_the_data_plane(world: World) -> None:
    session = world.create(2)
    [held] = world.claim(session, 0)
    data = encode_lines([b"1", FAILURE.model_dump_json().encode()])
    store = world.grid.queries.store
    assert isinstance(store, S3Store)
    store.put(result_key(TENANT, session.session_id, 0, 1), data)
    world.grid.chunks.finish([(held, world.progress("CF", results=Payload(stored_bytes=len(data))))])
    assert task(world, session, 1).error == FAILURE


def test_places_for_inputs_lie_below_the_tenant(world: World) -> None:
    places = world.grid.queries.upload_places(TENANT, "5" * 32, (1, 9))
    assert {chunk: input_key(TENANT, "5" * 32, chunk) in url for chunk, url in places.urls.items()} == {
        1: True,
        9: True,
    }
    assert places.headers == {"Content-Type": "application/zlib"}


def test_only_ones_own_connection_may_follow(world: World) -> None:
    session = world.create(1)
    mine, foreign = new_id(), new_id()
    world.grid.subscribers.issue_ticket(mine, TENANT, world.clock())
    world.grid.subscribers.issue_ticket(foreign, "another", world.clock())
    assert world.grid.queries.follow(TENANT, session.session_id, mine).subscribers == {mine}
    with pytest.raises(SessionConflict):
        world.grid.queries.follow(TENANT, session.session_id, foreign)
    assert world.read(session).subscribers == {mine}
    assert world.read(session).totals == Totals(chunks=1, tasks=1)
