"""Sessions are taken over whole, repeated requests change nothing, and contradictions are refused."""

import re
import zlib

import boto3
import pytest
from tests.support.control_plane_harness import TENANT, Harness, inputs

from htcgrid_controlplane.errors import SessionClosed, SessionConflict, SessionNotFound, UnknownPartition
from htcgrid_controlplane.rules.accounting import EndReason
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


def add(
    harness: Harness, session: Session, *sizes: int, first: int = 0, totals: tuple[int, int] | None = None
) -> Session:
    """Add chunks behind those that are there, and behind chunks of one task where none are."""
    rows = (harness.grid.chunks.read(session, chunk) for chunk in range(first))
    first_task = sum(row.size if row else 1 for row in rows)
    closing = Totals(chunks=totals[0], tasks=totals[1]) if totals else None
    request = AddChunks(chunks=inputs(*sizes, first_chunk=first, first_task=first_task), totals=closing)
    return harness.grid.submissions.add(TENANT, session.session_id, request)


def submitted(harness: Harness, session: Session) -> tuple[int, int]:
    status = harness.grid.queries.status(harness.read(session))
    return status.chunks, status.account.submitted


def test_a_session_is_announced_and_its_chunks_wait(harness: Harness) -> None:
    session = harness.create(2, 3, priority="high", max_retries=5, task_timeout_seconds=30)
    assert (session.state, session.totals) == (SessionState.RUNNING, Totals(chunks=2, tasks=5))
    assert harness.read(session) == session
    assert [(harness.row(session, chunk).first_task, harness.row(session, chunk).size) for chunk in (0, 1)] == [
        (0, 2),
        (2, 3),
    ]
    assert sorted(harness.messages(Priority.HIGH), key=lambda message: message.chunk) == [
        ChunkQueued(
            session_id=session.session_id, chunk=chunk, tenant=TENANT, max_retries=5, task_timeout_seconds=30
        )
        for chunk in (0, 1)
    ]  # fmt: skip
    [(detail_type, detail)] = harness.events()
    assert (detail_type, detail["session_id"]) == ("Session Created", session.session_id)
    assert detail["deadline_at"] == session.deadline_at == harness.clock() + 86_400_000
    assert submitted(harness, session) == (2, 5)


def test_messages_of_more_than_a_batch_are_all_sent(harness: Harness) -> None:
    harness.create(*[1] * 37)
    assert sorted(message.chunk for message in harness.messages()) == list(range(37))


def test_a_repeated_creation_changes_nothing_but_the_messages(harness: Harness) -> None:
    session = harness.create(2, 3)
    harness.messages()
    harness.clock.advance(5000)
    again = harness.create(2, 3, session_id=session.session_id)
    assert again == session
    assert submitted(harness, session) == (2, 5)
    assert sorted(message.chunk for message in harness.messages()) == [0, 1]


def test_a_repeated_creation_does_not_reset_what_ran_meanwhile(harness: Harness) -> None:
    session = harness.create(2, 3)
    harness.finish(session, {0: "CC"})
    row = harness.row(session)
    harness.create(2, 3, session_id=session.session_id)
    assert harness.row(session) == row


def test_an_id_that_is_taken_is_not_taken_over(harness: Harness) -> None:
    session = harness.create(2)
    with pytest.raises(SessionConflict):
        harness.create(2, session_id=session.session_id, max_retries=9)
    with pytest.raises(SessionConflict):
        harness.create(2, 2, session_id=session.session_id)
    with pytest.raises(SessionConflict, match="used for a session before"):
        harness.grid.submissions.create("thief", session.session_id, CreateSession(chunks=inputs(2)))
    assert harness.read(session) == session
    assert submitted(harness, session) == (1, 2)


def test_there_must_be_such_a_partition(harness: Harness) -> None:
    session_id = new_id()
    with pytest.raises(UnknownPartition):
        harness.create(1, session_id=session_id, partition="gpu")
    with pytest.raises(SessionNotFound):
        harness.grid.sessions.read(session_id)


@pytest.mark.parametrize("totals", [Totals(chunks=3, tasks=5), Totals(chunks=2, tasks=4), Totals(chunks=1, tasks=2)])
def test_a_creation_whose_totals_contradict_its_chunks_creates_nothing(harness: Harness, totals: Totals) -> None:
    session_id = new_id()
    with pytest.raises(SessionConflict):
        harness.grid.submissions.create(TENANT, session_id, CreateSession(chunks=inputs(2, 3), totals=totals))
    with pytest.raises(SessionNotFound):
        harness.grid.sessions.read(session_id)
    assert harness.events() == []
    assert harness.messages() == []


def test_a_session_grows_until_it_is_closed(harness: Harness) -> None:
    session = harness.create(4, close=False)
    assert session.state is SessionState.OPEN
    add(harness, session, 5, 6, first=1)
    closed = add(harness, session, 7, first=3, totals=(4, 22))
    assert (closed.state, closed.totals) == (SessionState.RUNNING, Totals(chunks=4, tasks=22))
    assert add(harness, session, 7, first=3, totals=(4, 22)) == closed
    assert submitted(harness, session) == (4, 22)
    with pytest.raises(SessionConflict):
        add(harness, session, 1, first=4)
    assert submitted(harness, session) == (4, 22)


@pytest.mark.parametrize("totals", [(3, 9), (2, 8), (2, 10), (1, 4)])
def test_totals_that_contradict_close_nothing(harness: Harness, totals: tuple[int, int]) -> None:
    session = harness.create(4, 5, close=False)
    with pytest.raises(SessionConflict):
        add(harness, session, totals=totals)
    now = harness.read(session)
    assert (now.state, now.totals) == (SessionState.OPEN, None)
    assert add(harness, session, totals=(2, 9)).totals == Totals(chunks=2, tasks=9)


def test_a_chunk_that_was_left_out_is_named(harness: Harness) -> None:
    session = harness.create(1, close=False)
    add(harness, session, 1, 1, first=2)
    with pytest.raises(SessionConflict, match=r"1 of 4 chunks were not submitted, such as 1\."):
        add(harness, session, totals=(4, 4))


def test_the_right_number_of_the_wrong_chunks_does_not_close(harness: Harness) -> None:
    session = harness.create(1, close=False)
    add(harness, session, 1, first=5)
    with pytest.raises(SessionConflict, match=r"such as 1\."):
        add(harness, session, totals=(2, 2))
    with pytest.raises(SessionConflict, match="2 chunks, not 1"):
        add(harness, session, totals=(1, 2))
    assert harness.read(session).totals is None


def test_a_chunk_beyond_the_totals_of_its_request_is_refused(harness: Harness) -> None:
    session = harness.create(1, close=False)
    with pytest.raises(SessionConflict, match="no chunk 7"):
        add(harness, session, 1, first=7, totals=(2, 2))
    assert submitted(harness, session) == (1, 1)


def test_chunks_of_many_buckets_are_counted_in_each(harness: Harness) -> None:
    session = harness.create(*[1] * 300)
    assert session.buckets == 3
    accounts = harness.grid.accounts.read(session, range(3))
    assert [(len(account.submitted), account.expected) for account in accounts] == [(128, 128), (128, 128), (44, 44)]


def test_buckets_are_reserved_before_their_chunks_come(harness: Harness) -> None:
    session = harness.create(1, close=False)
    add(harness, session, 1, first=200)
    assert harness.read(session).buckets == 2
    assert submitted(harness, session) == (2, 2)


def test_another_tenant_finds_nothing(harness: Harness) -> None:
    session = harness.create(1, close=False)
    with pytest.raises(SessionNotFound):
        harness.grid.submissions.add("thief", session.session_id, AddChunks(chunks=inputs(1, first_chunk=1)))
    with pytest.raises(SessionNotFound):
        harness.grid.submissions.add(TENANT, new_id(), AddChunks())
    assert submitted(harness, session) == (1, 1)


def test_a_stopped_session_takes_no_more_chunks(harness: Harness) -> None:
    session = harness.create(1, close=False)
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    with pytest.raises(SessionClosed):
        add(harness, session, 1, first=1)
    assert submitted(harness, session) == (1, 1)


def test_uploaded_inputs_are_noted_and_not_carried(harness: Harness) -> None:
    chunk = ChunkInput(chunk=0, first_task=0, size=9, stored_bytes=77_000)
    session = harness.grid.submissions.create(TENANT, new_id(), CreateSession(chunks=(chunk,)))
    assert (harness.row(session).inputs.data, harness.row(session).inputs.stored_bytes) == (None, 77_000)


def test_only_a_subscriber_of_the_tenant_may_follow(harness: Harness) -> None:
    mine, foreign = new_id(), new_id()
    harness.grid.subscribers.issue_ticket(mine, TENANT, harness.clock())
    harness.grid.subscribers.issue_ticket(foreign, "another", harness.clock())
    assert harness.create(1, subscriber_id=mine).subscribers == {mine}
    for subscriber_id in (foreign, new_id()):
        with pytest.raises(SessionConflict):
            harness.create(1, subscriber_id=subscriber_id)


def test_a_session_without_options_has_those_that_the_contract_says(harness: Harness) -> None:
    session = harness.grid.submissions.create(TENANT, new_id(), CreateSession())
    assert session.options == SessionOptions()
    assert submitted(harness, session) == (0, 0)


def test_a_repeated_submission_with_other_tasks_is_refused_and_changes_nothing(harness: Harness) -> None:
    session = harness.create(2)
    harness.messages()
    stored = harness.row(session, 0)
    for other in (zlib.compress(b'{"other":1}\n{"other":2}'), b"not compressed"):
        changed = ChunkInput(chunk=0, first_task=0, size=2, inputs=other)
        request = CreateSession(chunks=(changed,), totals=Totals(chunks=1, tasks=2), options=session.options)
        with pytest.raises(SessionConflict, match=r"Chunk 0 .* with other tasks"):
            harness.grid.submissions.create(TENANT, session.session_id, request)
    assert harness.row(session, 0) == stored
    assert harness.messages() == []
    assert submitted(harness, session) == (1, 2)


def test_the_same_tasks_compressed_otherwise_are_the_same_submission(harness: Harness) -> None:
    session = harness.create(2)
    data = harness.row(session, 0).inputs.data
    assert data is not None
    again = ChunkInput(chunk=0, first_task=0, size=2, inputs=zlib.compress(zlib.decompress(data), level=9))
    assert again.inputs != data
    request = CreateSession(chunks=(again,), totals=Totals(chunks=1, tasks=2), options=session.options)
    harness.grid.submissions.create(TENANT, session.session_id, request)
    assert submitted(harness, session) == (1, 2)


def test_a_chunk_that_begins_beyond_the_session_is_refused_and_creates_nothing(harness: Harness) -> None:
    session_id = new_id()
    chunks = inputs(1, first_task=10**9)
    with pytest.raises(SessionConflict, match="No chunk holds the tasks 0 to 999999999"):
        harness.grid.submissions.create(
            TENANT, session_id, CreateSession(chunks=chunks, totals=Totals(chunks=1, tasks=1))
        )
    with pytest.raises(SessionNotFound):
        harness.grid.sessions.read(session_id)
    session = harness.create(1, close=False)
    with pytest.raises(SessionConflict, match="before chunk 5"):
        harness.grid.submissions.add(
            TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=5, first_task=10**9))
        )
    assert submitted(harness, session) == (1, 1)


@pytest.mark.parametrize(
    ("first_task", "sentence"),
    [(1, "Chunks overlap in the tasks 1 to 1"), (3, "No chunk holds the tasks 2 to 2")],
)
@pytest.mark.parametrize("chunk", [1, 130])
def test_a_session_whose_chunks_do_not_follow_each_other_is_cancelled_when_it_is_closed(
    harness: Harness, first_task: int, sentence: str, chunk: int
) -> None:
    session = harness.create(*[1] * (chunk - 1), 2, close=False)
    first_task += chunk - 1
    harness.grid.submissions.add(
        TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=chunk, first_task=first_task))
    )
    sentence = re.sub(r"\b[12]\b", lambda number: str(int(number[0]) + chunk - 1), sentence)
    with pytest.raises(SessionConflict, match=sentence):
        add(harness, session, totals=(chunk + 1, chunk + 2))
    refused = harness.read(session)
    assert (refused.stop_reason, refused.totals) == (EndReason.CANCELLED, None)
    assert "Session Stopping" in [name for name, _ in harness.events()]
    assert harness.grid.lifecycle.settle(session.session_id, EndReason.CANCELLED, 0) is None
    assert harness.grid.lifecycle.end(session.session_id, EndReason.CANCELLED).state is SessionState.CANCELLED


def test_closing_costs_a_read_for_a_hundred_buckets_however_many_chunks_there_are(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = harness.create(*[1] * 300, close=False)
    monkeypatch.setattr(type(harness.grid.chunks), "bucket", lambda *_: pytest.fail("a row was read"))
    assert add(harness, session, totals=(300, 300)).totals == Totals(chunks=300, tasks=300)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.TIMED_OUT, EndReason.FAILURES])
def test_a_repeated_request_is_accepted_after_the_session_was_stopped(
    harness: Harness, reason: EndReason, ended: bool, closed: bool
) -> None:
    session = harness.create(2, 1, close=closed)
    harness.grid.lifecycle.settle(session.session_id, reason, 0)
    if ended:
        harness.grid.lifecycle.end(session.session_id, reason)
    stopped = harness.read(session)
    harness.messages()
    assert harness.create(2, 1, session_id=session.session_id, close=closed) == stopped
    assert add(harness, session, 2, 1, totals=(2, 3) if closed else None) == stopped
    assert add(harness, session, 2) == stopped
    assert harness.messages() == []
    assert harness.read(session) == stopped
    with pytest.raises(SessionClosed):
        harness.create(2, 1, 1, session_id=session.session_id, close=False)
    with pytest.raises(SessionConflict, match="other tasks"):
        add(harness, session, 1)
    if not closed:
        with pytest.raises(SessionClosed):
            harness.create(2, 1, session_id=session.session_id)


def test_a_repeated_request_is_accepted_after_the_session_has_completed(harness: Harness) -> None:
    session = harness.create(2, 1)
    harness.record(session, harness.finish(session, {0: "CC", 1: "C"}))
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert ended.state is SessionState.COMPLETED
    assert harness.create(2, 1, session_id=session.session_id).state is SessionState.COMPLETED
    assert add(harness, session, 2, 1, totals=(2, 3)).state is SessionState.COMPLETED
    assert harness.row(session).finished


def test_queues_and_rows_are_where_the_run_says(
    harness: Harness, embedded_url: str, service_endpoints: dict[str, str]
) -> None:
    settings = harness.grid.settings
    url = service_endpoints.get("AWS_ENDPOINT_URL_SQS", embedded_url)
    queues = [*map(harness.queue_url, Priority), settings.task_events_queue_url]
    assert all(queue.startswith(f"{url}/") for queue in queues)
    assert harness.watcher_url.startswith(f"{embedded_url}/")
    rows = service_endpoints.get("AWS_ENDPOINT_URL_DYNAMODB", embedded_url)
    assert boto3.client("dynamodb").meta.endpoint_url == rows
