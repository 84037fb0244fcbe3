"""What an owner may ask, and nobody else."""

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from tests.support.control_plane_harness import AGENT, FAILURE, LEASE, TENANT, Harness, inputs

from htcgrid_chunks.chunk import Payload
from htcgrid_controlplane.errors import SessionConflict, SessionNotFound, TaskNotFound
from htcgrid_controlplane.rules.accounting import BucketAccount
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services import queries
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_dataplane import MAX_ENCODED_BYTES, decode_lines, encode_lines, input_key, result_key
from htcgrid_events import (
    BUCKET_SIZE,
    MAX_STORED_BYTES,
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


def page(harness: Harness, session: Session, after: int = -1, bucket: int = 0) -> OutcomePage:
    return harness.grid.queries.outcomes(TENANT, session.session_id, bucket, after)


def task(harness: Harness, session: Session, index: int) -> TaskRecord:
    return harness.grid.queries.task(TENANT, session.session_id, index)


def test_another_tenant_and_an_unknown_id_are_not_told_apart(harness: Harness) -> None:
    session = harness.create(1)
    ask = harness.grid.queries
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


def test_the_status_of_a_session_follows_its_account(harness: Harness) -> None:
    session = harness.create(2, 1, close=False)
    assert harness.grid.queries.status(session).account == Account(submitted=3)
    harness.record(session, harness.finish(session, {0: "CF"}))
    status = harness.grid.queries.status(harness.read(session))
    assert (status.account, status.chunks) == (Account(submitted=3, completed=1, failed=1), 2)
    assert status.stop_reason is None
    stopped = harness.grid.queries.status(harness.grid.lifecycle.cancel(TENANT, session.session_id))
    assert stopped.stop_reason is StopReason.CANCELLED


def test_outcomes_come_when_counted_in_order_with_their_results(harness: Harness) -> None:
    session = harness.create(1, 2, 1)
    outcomes = harness.finish(session, {2: "C", 0: "C", 1: "CF"})
    assert page(harness, session).outcomes == ()
    harness.clock.advance(3)
    harness.record(session, [outcome for outcome in outcomes if outcome.chunk != 1])
    found = page(harness, session).outcomes
    assert [outcome.chunk for outcome in found] == [0, 2]
    assert {outcome.stages.notified_at for outcome in found} == {harness.clock()}
    assert found[0].results == harness.row(session, 0).results.data
    harness.record(session, outcomes)
    assert [outcome.chunk for outcome in page(harness, session).outcomes] == [0, 1, 2]
    assert [outcome.chunk for outcome in page(harness, session, after=1).outcomes] == [2]
    assert page(harness, session, bucket=3) == OutcomePage(outcomes=(), next_after=None)


def test_outcomes_come_in_pages_of_bounded_size(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    session = harness.create(*[1] * 5)
    leases = harness.claim(session, *range(5))
    harness.grid.chunks.finish([(each, harness.progress("C", results=Payload(b"r" * 400))) for each in leases])
    harness.record(session, [harness.row(session, chunk).outcome() for chunk in range(5)])
    monkeypatch.setattr(queries, "_PAGE_BYTES", 1000)
    pages, after = [], -1
    while True:
        answer = page(harness, session, after)
        pages.append([outcome.chunk for outcome in answer.outcomes])
        if answer.next_after is None:
            break
        after = answer.next_after
    assert pages == [[0, 1], [2, 3], [4]]
    monkeypatch.setattr(queries, "_PAGE_BYTES", 10)
    assert [outcome.chunk for outcome in page(harness, session).outcomes] == [0]


def test_large_results_come_as_a_link_to_the_attempt_that_counts(harness: Harness) -> None:
    session = harness.create(2)
    harness.claim(session, 0)
    harness.clock.advance(LEASE)
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.finish([(lease, harness.progress("CF", results=Payload(stored_bytes=5)))])
    harness.record(session, [harness.row(session).outcome()])
    [outcome] = page(harness, session).outcomes
    assert outcome.results is None
    assert outcome.url is not None
    assert result_key(TENANT, session.session_id, 0, 2) in outcome.url
    assert "X-Amz-Signature" in outcome.url


def test_a_page_has_the_tasks_that_are_final_in_chunks_that_are_not(harness: Harness) -> None:
    session = harness.create(2, 2, 2, 2)
    harness.record(session, harness.finish(session, {0: "CC"}))
    harness.retry(session, {1: "CQ"})
    harness.retry(session, {2: "QQ"})
    harness.finish(session, {3: "CF"})  # not counted yet
    found = page(harness, session)
    assert [(each.chunk, each.outcomes) for each in found.outcomes] == [(0, "CC")]
    assert [(each.chunk, each.outcomes, each.attempt) for each in found.partial] == [(1, "CQ", 1), (3, "CF", 1)]
    assert all(each.results is not None and each.url is None for each in found.partial)
    [lease] = harness.claim(session, 1)
    at = harness.clock()
    progress = harness.progress("CQ", results=Payload(stored_bytes=7))
    harness.grid.chunks.retry([(lease, progress, at)])
    [told] = [each for each in page(harness, session).partial if each.chunk == 1]
    assert (told.results, told.stored_bytes) == (None, 7)
    assert told.url is not None
    assert urlsplit(told.url).path.endswith(result_key(TENANT, session.session_id, 1, 2))


def test_a_task_is_found_by_halving_in_chunks_of_any_size(harness: Harness) -> None:
    sizes = [3, 1, 1, 7, 2, 5]
    session = harness.create(*sizes)
    expected = [chunk for chunk, size in enumerate(sizes) for _ in range(size)]
    assert [task(harness, session, index).chunk for index in range(sum(sizes))] == expected
    with pytest.raises(TaskNotFound):
        task(harness, session, sum(sizes))
    with pytest.raises(TaskNotFound):
        task(harness, harness.create(close=False), 0)


def test_a_task_in_a_later_bucket_is_found(harness: Harness) -> None:
    session = harness.create(4, close=False)
    request = AddChunks(chunks=inputs(4, first_chunk=700, first_task=2800))
    harness.grid.submissions.add(TENANT, session.session_id, request)
    assert task(harness, session, 2803).chunk == 700
    with pytest.raises(TaskNotFound):
        task(harness, session, 100)


def test_the_record_of_a_task_tells_its_way(harness: Harness) -> None:
    session = harness.create(2, 3, max_retries=2)
    waiting = task(harness, session, 3)
    assert (waiting.state, waiting.owner, waiting.attempts) == (TaskState.QUEUED, None, 0)
    assert (waiting.lease_expires_at, waiting.message_handle, waiting.error) == (None, None, None)
    [lease] = harness.claim(session, 1)
    running = task(harness, session, 3)
    assert (running.state, running.owner, running.attempts) == (TaskState.RUNNING, AGENT, 1)
    assert (running.lease_expires_at, running.message_handle) == (harness.clock() + LEASE, "message-1")
    harness.grid.chunks.retry([(lease, harness.progress("CQF", tries={1: 1, 2: 3}), harness.clock())])
    states = [task(harness, session, index).state for index in (2, 3, 4)]
    assert states == [TaskState.COMPLETED, TaskState.RETRY, TaskState.FAILED]
    assert [task(harness, session, index).retries for index in (2, 3, 4)] == [0, 1, 2]
    assert task(harness, session, 4).error == FAILURE
    assert task(harness, session, 3).task_id == f"{session.session_id}_3"
    harness.clock.advance(50)
    harness.record(session, harness.finish(session, {1: "CCF"}))
    done = task(harness, session, 3)
    assert (done.state, done.attempts, done.error) == (TaskState.COMPLETED, 2, None)
    assert (done.stages.notified_at, done.stages.submitted_at) == (harness.clock(), session.created_at)


def test_what_a_task_was_given_is_kept_after_its_end(harness: Harness) -> None:
    session = harness.create(2, 3)
    harness.record(session, harness.finish(session, {0: "CC", 1: "CFC"}))
    found = harness.grid.queries.task_input(TENANT, session.session_id, 3)
    assert (found.index, found.line, found.lines, found.url) == (3, 1, 3, None)
    assert found.inputs is not None
    assert decode_lines(found.inputs, found.lines)[found.line] == b"{}"
    with pytest.raises(TaskNotFound):
        harness.grid.queries.task_input(TENANT, session.session_id, 5)


def test_large_inputs_come_as_a_link(harness: Harness) -> None:
    session = harness.create(close=False)
    stored = ChunkInput(chunk=0, first_task=0, size=2, stored_bytes=9)
    harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=(stored,)))
    found = harness.grid.queries.task_input(TENANT, session.session_id, 1)
    assert (found.line, found.lines, found.inputs) == (1, 2, None)
    assert found.url is not None
    assert input_key(TENANT, session.session_id, 0) in found.url
    assert "X-Amz-Signature" in found.url


def test_an_error_is_read_from_the_data_plane(harness: Harness) -> None:
    session = harness.create(2)
    [lease] = harness.claim(session, 0)
    data = encode_lines([b"1", FAILURE.model_dump_json().encode()])
    harness.grid.bucket.put(result_key(TENANT, session.session_id, 0, 1), data)
    harness.grid.chunks.finish([(lease, harness.progress("CF", results=Payload(stored_bytes=len(data))))])
    assert task(harness, session, 1).error == FAILURE


def test_places_for_inputs_lie_below_the_tenant(harness: Harness) -> None:
    places = harness.grid.relay.places(TENANT, "5" * 32, {1: 700, 9: MAX_STORED_BYTES})
    assert {chunk: input_key(TENANT, "5" * 32, chunk) in url for chunk, url in places.urls.items()} == {
        1: True,
        9: True,
    }
    assert places.headers == {"Content-Type": "application/zlib", "If-None-Match": "*"}


def test_a_place_takes_one_upload_and_what_lies_there_can_be_read(harness: Harness) -> None:
    session_id, first, second = new_id(), b"first", b"other"
    statuses = []
    for data in (first, second, first):
        places = harness.grid.relay.places(TENANT, session_id, {3: len(data)})
        statuses.append(httpx.put(places.urls[3], headers=places.headers, content=data).status_code)
        assert httpx.get(places.taken[3]).content == first
    assert statuses == [HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.PRECONDITION_FAILED]
    unconditional = {name: value for name, value in places.headers.items() if name != "If-None-Match"}
    assert httpx.put(places.urls[3], headers=unconditional, content=second).status_code == HTTPStatus.FORBIDDEN
    assert httpx.get(places.taken[3]).content == first


def test_a_place_takes_exactly_the_bytes_that_were_said(harness: Harness) -> None:
    assert MAX_STORED_BYTES == MAX_ENCODED_BYTES
    url = harness.grid.relay.places(TENANT, "5" * 32, {1: 700}).urls[1]
    signed = parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"][0].split(";")
    assert "content-length" in signed
    longer = boto3.client("s3").generate_presigned_url  # the same place for other bytes has another signature
    place = {"Bucket": harness.grid.settings.data_bucket, "Key": input_key(TENANT, "5" * 32, 1)}
    assert longer("put_object", Params={**place, "ContentLength": 701}) != url


def test_the_record_of_one_task_does_not_read_the_accounts_of_the_whole_session(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = harness.create(*[2] * (4 * BUCKET_SIZE), close=False)
    asked: list[int] = []
    read = AccountStore.read

    def listening(store: AccountStore, session: Session, buckets: Sequence[int]) -> list[BucketAccount]:
        asked.extend(buckets)
        return read(store, session, buckets)

    monkeypatch.setattr(AccountStore, "read", listening)
    for index in (0, 255, 256, 5 * BUCKET_SIZE, 8 * BUCKET_SIZE - 1):
        asked.clear()
        record = task(harness, session, index)
        assert (record.index, record.chunk) == (index, index // 2)
        assert len(asked) <= 4
    with pytest.raises(TaskNotFound):
        task(harness, session, 8 * BUCKET_SIZE)


def test_a_task_is_found_behind_buckets_that_are_still_to_come(harness: Harness) -> None:
    session = harness.create(1, 1, close=False)
    far = 30 * BUCKET_SIZE
    for first in (far, 3 * BUCKET_SIZE):
        request = AddChunks(chunks=inputs(1, 1, first_chunk=first))
        harness.grid.submissions.add(TENANT, session.session_id, request)
    assert [task(harness, session, index).chunk for index in (1, 3 * BUCKET_SIZE, far + 1)] == [
        1, 3 * BUCKET_SIZE, far + 1,
    ]  # fmt: skip
    for nowhere in (2, far - 1, far + 2):
        with pytest.raises(TaskNotFound):
            task(harness, session, nowhere)


def test_only_ones_own_connection_may_follow(harness: Harness) -> None:
    session = harness.create(1)
    mine, foreign = new_id(), new_id()
    harness.grid.subscribers.issue_ticket(mine, TENANT, harness.clock())
    harness.grid.subscribers.issue_ticket(foreign, "another", harness.clock())
    assert harness.grid.queries.follow(TENANT, session.session_id, mine).subscribers == {mine}
    with pytest.raises(SessionConflict):
        harness.grid.queries.follow(TENANT, session.session_id, foreign)
    assert harness.read(session).subscribers == {mine}
    assert harness.read(session).totals == Totals(chunks=1, tasks=1)


@pytest.mark.parametrize(
    "results", [Payload(b"no zlib"), Payload(encode_lines([b'"no error"'])), Payload(stored_bytes=9)]
)
def test_a_record_is_shown_though_its_error_cannot_be_read(harness: Harness, results: Payload) -> None:
    session = harness.create(1)
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.finish([(lease, harness.progress("F", results=results))])
    error = task(harness, session, 0).error
    assert error is not None
    assert (error.kind, error.type) == ("lost", "HTCGrid.ErrorLost")
