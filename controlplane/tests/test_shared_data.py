"""Data that tasks share: put, completed, listed, referred to, kept, limited and deleted."""

import base64
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

import boto3
import httpx
import pytest
from tests.support.control_plane_harness import STRANGER, TENANT, Harness, inputs

from htcgrid_controlplane.errors import (
    DataBusy,
    DataConflict,
    DataInUse,
    DataMissing,
    DataNotFound,
    NotAllowed,
    QuotaExceeded,
    SessionNotFound,
)
from htcgrid_controlplane.rules.shared_data import OBJECT_DAYS
from htcgrid_controlplane.services import shared_data
from htcgrid_controlplane.services.shared_data import SharedData
from htcgrid_controlplane.storage.preloads import PreloadStore
from htcgrid_dataplane import data_key
from htcgrid_dataplane.shared_objects import PART_BYTES
from htcgrid_events import (
    MAX_DATA_PER_REQUEST,
    AddChunks,
    CreateSession,
    DataPlace,
    DataReference,
    DataState,
    PutData,
    SessionOptions,
    Totals,
    new_id,
)

HOUR = 3_600_000
DAY = 24 * HOUR
_contents = count()


@pytest.fixture
def data(harness: Harness) -> SharedData:
    return harness.grid.shared_data


def content(size: int = 16) -> bytes:
    """Bytes that no other test has."""
    return f"{next(_contents):08}".encode().ljust(size, b".")


def digest_of(stored: bytes) -> str:
    return hashlib.sha256(stored).hexdigest()


def announce(data: SharedData, stored: bytes, tenant: str = TENANT, name: str = "curves") -> DataPlace:
    return data.put(tenant, digest_of(stored), PutData(bytes=len(stored), name=name))


def upload(place: DataPlace, stored: bytes) -> list[int]:
    """PUT all parts. Gives the statuses."""
    assert place.upload
    part = place.upload.part_bytes
    pieces = [stored[start : start + part] for start in range(0, len(stored), part)] or [b""]
    return [
        httpx.put(url, content=piece, headers=place.upload.headers, timeout=60).status_code
        for url, piece in zip(place.upload.urls, pieces, strict=True)
    ]


def put(data: SharedData, stored: bytes, tenant: str = TENANT) -> str:
    """Put data and complete it. Gives its digest."""
    assert upload(announce(data, stored, tenant), stored) == [200] * max(1, -(-len(stored) // PART_BYTES))
    data.complete(tenant, digest_of(stored))
    return digest_of(stored)


def reference(digest: str, size: int = 16, name: str = "curves") -> DataReference:
    return DataReference(sha256=digest, bytes=size, name=name)


def request(*digests: str, preload: tuple[DataReference, ...] = (), **options: Any) -> CreateSession:
    return CreateSession(
        options=SessionOptions(**options),
        chunks=inputs(1),
        totals=Totals(chunks=1, tasks=1),
        data=digests,
        preload=preload,
    )


def object_of(harness: Harness, digest: str, tenant: str = TENANT) -> bytes:
    key = data_key(tenant, digest)
    return boto3.client("s3").get_object(Bucket=harness.grid.settings.data_bucket, Key=key)["Body"].read()


def modified(harness: Harness, digest: str) -> datetime:
    key = data_key(TENANT, digest)
    return boto3.client("s3").head_object(Bucket=harness.grid.settings.data_bucket, Key=key)["LastModified"]


def row(harness: Harness, digest: str, tenant: str = TENANT) -> dict[str, Any] | None:
    key = {"tenant": {"S": tenant}, "sha256": {"S": digest}}
    table = harness.grid.settings.data_table
    return boto3.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def counted(patch: pytest.MonkeyPatch, data: SharedData, name: str) -> list[tuple[Any, ...]]:
    """The calls of a method of the objects, as they are made."""
    calls: list[tuple[Any, ...]] = []
    real: Callable[..., Any] = getattr(data.objects, name)

    def called(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    patch.setattr(data.objects, name, called)
    return calls


def test_data_is_announced_uploaded_completed_and_then_there(harness: Harness, data: SharedData) -> None:
    stored = content()
    place = announce(data, stored)
    assert not place.there
    assert place.reference == reference(digest_of(stored))
    assert data.get(TENANT, place.reference.sha256).state is DataState.UPLOADING
    assert data.get(TENANT, place.reference.sha256).url is None
    digest = put(data, stored)
    record = data.get(TENANT, digest)
    assert (record.state, record.reference) == (DataState.THERE, reference(digest))
    assert record.expires_at >= harness.clock() + 7 * DAY
    assert record.url
    assert httpx.get(record.url, timeout=60).content == stored
    assert object_of(harness, digest) == stored


def test_data_that_is_there_is_not_uploaded_again_and_is_kept_for_longer(harness: Harness, data: SharedData) -> None:
    stored = content()
    digest = put(data, stored)
    before = data.get(TENANT, digest)
    harness.clock.advance(3 * DAY)
    place = announce(data, stored, name="yield curves")
    assert place.there
    assert place.upload is None
    assert place.expires_at == before.expires_at + 3 * DAY
    assert data.get(TENANT, digest).reference.name == "yield curves"
    assert place.reference.name == "yield curves"


@pytest.mark.parametrize("size", [0, 1, PART_BYTES])
def test_data_of_one_part_is_one_put_of_exactly_these_bytes(data: SharedData, size: int) -> None:
    stored = content(size)[:size]
    place = announce(data, stored, tenant=f"tenant-{new_id()}")
    assert place.upload
    assert len(place.upload.urls) == 1
    wanted = base64.b64encode(hashlib.sha256(stored).digest()).decode()
    assert place.upload.headers["x-amz-checksum-sha256"] == wanted
    url = place.upload.urls[0]
    # What S3 checks of a presigned request, the size and the SHA-256 of the body, is signed.
    signed = httpx.URL(url).params["X-Amz-SignedHeaders"].split(";")
    assert {"content-length", "content-type", "x-amz-checksum-sha256"} <= set(signed)
    assert upload(place, stored) == [200]


def test_large_data_is_uploaded_in_parts_and_whole_when_all_are_there(harness: Harness, data: SharedData) -> None:
    stored = content(2 * PART_BYTES + 5)
    digest = digest_of(stored)
    place = announce(data, stored)
    assert place.upload
    assert len(place.upload.urls) == 3
    with pytest.raises(DataConflict, match="lacks 3 parts, such as 1, 2, 3:"):
        data.complete(TENANT, digest)
    first, _, last = place.upload.urls
    assert httpx.put(first, content=stored[:PART_BYTES], timeout=60).status_code == 200
    assert httpx.put(last, content=stored[2 * PART_BYTES :], timeout=60).status_code == 200
    with pytest.raises(DataConflict, match="lacks 1 part, such as 2:"):
        data.complete(TENANT, digest)
    # Whoever asks again goes on with the same upload.
    again = announce(data, stored)
    assert again.upload
    assert httpx.put(again.upload.urls[1], content=stored[PART_BYTES : 2 * PART_BYTES], timeout=60).status_code == 200
    assert data.complete(TENANT, digest).state is DataState.THERE
    assert data.complete(TENANT, digest).state is DataState.THERE
    assert object_of(harness, digest) == stored


def test_a_part_of_another_size_is_not_taken_for_the_part(data: SharedData) -> None:
    stored = content(PART_BYTES + 5)
    place = announce(data, stored)
    assert place.upload
    # Real S3 refuses it, since its size is signed; the embedded one may not look.
    httpx.put(place.upload.urls[0], content=b"short", timeout=60)
    httpx.put(place.upload.urls[1], content=stored[PART_BYTES:], timeout=60)
    with pytest.raises(DataConflict, match="such as 1"):
        data.complete(TENANT, digest_of(stored))


def test_an_upload_that_was_completed_by_a_lost_request_is_whole(harness: Harness, data: SharedData) -> None:
    stored = content(PART_BYTES + 5)
    place = announce(data, stored)
    upload(place, stored)
    seen = data.rows.read(TENANT, digest_of(stored))
    assert seen
    assert data.objects.complete_parts(data_key(TENANT, seen.sha256), seen.upload, seen.size) == []
    assert data.complete(TENANT, seen.sha256).state is DataState.THERE


def test_an_upload_that_was_aborted_begins_anew(data: SharedData) -> None:
    stored = content(PART_BYTES + 5)
    upload(announce(data, stored), stored)
    seen = data.rows.read(TENANT, digest_of(stored))
    assert seen
    data.objects.abort_parts(data_key(TENANT, seen.sha256), seen.upload)
    with pytest.raises(DataConflict, match="put it again"):
        data.complete(TENANT, seen.sha256)
    assert put(data, stored) == seen.sha256


def test_several_who_put_the_same_data_upload_parts_of_one_upload(
    data: SharedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = content(PART_BYTES + 1)
    aborted = counted(monkeypatch, data, "abort_parts")
    begin = data.objects.begin_parts
    begun: list[str] = []
    others: list[DataPlace] = []

    def begin_while_another_does(key: str) -> str:
        monkeypatch.setattr(data.objects, "begin_parts", begin)
        begun.append(begin(key))
        others.append(announce(data, stored))
        return begun[0]

    monkeypatch.setattr(data.objects, "begin_parts", begin_while_another_does)
    place = announce(data, stored)
    ids = {httpx.URL(each.upload.urls[0]).params["uploadId"] for each in (place, *others) if each.upload}
    assert len(ids) == 1
    assert ids.isdisjoint(begun)
    assert [upload for _, upload in aborted] == begun
    assert put(data, stored)


def test_nothing_can_be_completed_that_was_not_put_or_not_uploaded(data: SharedData) -> None:
    stored = content()
    with pytest.raises(DataNotFound):
        data.complete(TENANT, digest_of(stored))
    announce(data, stored)
    with pytest.raises(DataConflict, match="is not uploaded"):
        data.complete(TENANT, digest_of(stored))
    with pytest.raises(DataConflict, match="16 bytes, not 17"):
        data.put(TENANT, digest_of(stored), PutData(bytes=17, name="curves"))


def test_data_is_reached_by_its_own_tenant_alone(harness: Harness, data: SharedData) -> None:
    stored = content()
    digest = put(data, stored)
    for ask in (
        lambda: data.get(STRANGER, digest),
        lambda: data.complete(STRANGER, digest),
        lambda: data.refer(STRANGER, frozenset({digest}), harness.clock()),
    ):
        with pytest.raises((DataNotFound, DataMissing)):
            ask()
    assert not data.delete(STRANGER, digest, force=True).deleted
    assert digest not in {record.reference.sha256 for record in data.page(STRANGER, None).data}
    assert not announce(data, stored, STRANGER).there
    assert object_of(harness, digest) == stored
    assert data.get(TENANT, digest).state is DataState.THERE


def test_a_list_has_all_data_in_pages(own_harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_data, "_PAGE", 2)
    data = own_harness.grid.shared_data
    digests = sorted(put(data, content()) for _ in range(5))
    announce(data, gone := content())
    seen: list[str] = []
    after: str | None = None
    own_harness.clock.advance(DAY + 1)
    for _ in range(10):
        page = data.page(TENANT, after)
        assert len(page.data) <= 2
        seen += [record.reference.sha256 for record in page.data]
        assert all(record.url is None for record in page.data)
        after = page.next_after
        if after is None:
            break
    assert seen == digests
    assert digest_of(gone) not in seen


def test_an_upload_that_was_left_is_forgotten_after_a_day(harness: Harness, data: SharedData) -> None:
    stored = content()
    upload(announce(data, stored), stored)
    harness.clock.advance(DAY + 1_000)
    with pytest.raises(DataNotFound):
        data.complete(TENANT, digest_of(stored))
    with pytest.raises(DataNotFound):
        data.get(TENANT, digest_of(stored))
    assert put(data, stored)


def test_data_whose_object_is_lost_can_be_put_again(harness: Harness, data: SharedData) -> None:
    stored = content()
    digest = put(data, stored)
    data.objects.delete(data_key(TENANT, digest))
    assert put(data, stored) == digest
    assert object_of(harness, digest) == stored


# ---- Sessions that refer to data ------------------------------------------------------------------------------------


def test_a_session_that_refers_to_missing_data_is_refused_and_nothing_written(
    harness: Harness, data: SharedData
) -> None:
    there, announced = put(data, content()), content()
    announce(data, announced)
    gone = digest_of(b"never put")
    before = row(harness, there)
    usage = harness.grid.tenants.read(TENANT)
    session_id = new_id()
    with pytest.raises(DataMissing) as refused:
        harness.grid.submissions.create(TENANT, session_id, request(there, digest_of(announced), gone))
    assert gone in str(refused.value)
    assert digest_of(announced) in str(refused.value)
    assert there not in str(refused.value)
    with pytest.raises(SessionNotFound):
        harness.grid.sessions.read(session_id)
    assert harness.grid.tenants.read(TENANT) == usage
    assert row(harness, there) == before
    assert harness.messages() == []


def test_chunks_that_refer_to_missing_data_are_refused_and_nothing_written(harness: Harness) -> None:
    session = harness.create(1, close=False)
    usage = harness.grid.tenants.read(TENANT)
    more = AddChunks(chunks=inputs(1, first_chunk=1), data=(digest_of(b"never put"),))
    with pytest.raises(DataMissing):
        harness.grid.submissions.add(TENANT, session.session_id, more)
    assert harness.grid.chunks.read(session, 1) is None
    assert harness.grid.tenants.read(TENANT) == usage


def test_another_tenants_data_is_missing(harness: Harness, data: SharedData) -> None:
    digest = put(data, content(), STRANGER)
    with pytest.raises(DataMissing):
        harness.grid.submissions.create(TENANT, new_id(), request(digest))


def test_a_repeated_request_is_accepted_though_its_data_is_gone(harness: Harness, data: SharedData) -> None:
    digest = put(data, content())
    session_id = new_id()
    wanted = CreateSession(chunks=inputs(1), data=(digest,), preload=(reference(digest),))
    more = AddChunks(chunks=inputs(1, first_chunk=1), data=(digest,), totals=Totals(chunks=2, tasks=2))
    harness.grid.submissions.create(TENANT, session_id, wanted)
    harness.grid.submissions.add(TENANT, session_id, more)
    data.delete(TENANT, digest, force=True)
    assert harness.grid.submissions.create(TENANT, session_id, wanted).session_id == session_id
    assert harness.grid.submissions.add(TENANT, session_id, more).totals == more.totals
    with pytest.raises(DataMissing):
        harness.grid.submissions.create(TENANT, new_id(), wanted)
    with pytest.raises(DataMissing):
        harness.grid.submissions.add(TENANT, session_id, AddChunks(chunks=inputs(1, first_chunk=2), data=(digest,)))


def test_data_is_kept_for_as_long_as_a_session_may_run_and_the_retention_after_it(
    harness: Harness, data: SharedData
) -> None:
    digest = put(data, content())
    session = harness.grid.submissions.create(TENANT, new_id(), request(digest, session_timeout_seconds=20 * 86_400))
    record = data.get(TENANT, digest)
    assert session.deadline_at <= record.needed_until <= session.deadline_at + HOUR
    assert record.expires_at == record.needed_until + 7 * DAY
    # A shorter session takes nothing back.
    harness.grid.submissions.create(TENANT, new_id(), request(digest))
    assert data.get(TENANT, digest) == replace_url(record, data.get(TENANT, digest).url)


def replace_url(record: Any, url: str | None) -> Any:
    return record.model_copy(update={"url": url})


def test_chunks_added_to_a_long_session_keep_data_for_longer(harness: Harness, data: SharedData) -> None:
    digest = put(data, content())
    options = SessionOptions(session_timeout_seconds=20 * 86_400)
    created = CreateSession(options=options, chunks=inputs(1))
    session = harness.grid.submissions.create(TENANT, new_id(), created)
    harness.clock.advance(6 * DAY)
    more = AddChunks(chunks=inputs(1, first_chunk=1), data=(digest,))
    harness.grid.submissions.add(TENANT, session.session_id, more)
    assert data.get(TENANT, digest).needed_until >= session.deadline_at


def test_sessions_of_one_hour_write_a_row_once(harness: Harness, data: SharedData) -> None:
    digest = put(data, content())
    harness.grid.submissions.create(TENANT, new_id(), request(digest))
    before = row(harness, digest)
    harness.grid.submissions.create(TENANT, new_id(), request(digest))
    assert row(harness, digest) == before


def test_many_sessions_at_once_keep_data_for_as_long_as_the_longest(harness: Harness, data: SharedData) -> None:
    digest = put(data, content())
    days = range(1, 9)
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda day: data.refer(TENANT, frozenset({digest}), harness.clock() + day * DAY),
                days,
            )
        )
    assert data.get(TENANT, digest).needed_until >= harness.clock() + max(days) * DAY


def test_a_request_may_refer_to_as_many_data_as_its_contract_says(own_harness: Harness) -> None:
    data = own_harness.grid.shared_data
    first = data.rows.read(TENANT, put(data, content()))
    assert first
    digests = [f"{number:064x}" for number in range(MAX_DATA_PER_REQUEST)]
    for digest in digests:
        data.rows.write(replace(first, sha256=digest), None)
    assert data.refer(TENANT, frozenset(digests), own_harness.clock()).keys() == set(digests)


# ---- The age of objects ---------------------------------------------------------------------------------------------


def test_an_object_is_copied_when_its_bucket_would_expire_it_too_soon_and_once_a_day_at_most(
    harness: Harness, data: SharedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = counted(monkeypatch, data, "refresh")
    stored = content()
    harness.clock.now = int(time.time() * 1000)
    digest = put(data, stored)
    old = modified(harness, digest)
    stored_at = int(old.timestamp() * 1000)
    refer = frozenset({digest})
    # Nothing is copied while the object outlives the row,
    harness.clock.now = stored_at + HOUR
    data.refer(TENANT, refer, harness.clock())
    for day in range(6, OBJECT_DAYS - 7, 6):
        harness.clock.now = stored_at + day * DAY
        data.refer(TENANT, refer, harness.clock())
    assert copies == []
    assert modified(harness, digest) == old
    # then once, whoever refers to it at a time,
    harness.clock.now = stored_at + (OBJECT_DAYS - 5) * DAY
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: data.refer(TENANT, refer, harness.clock()), range(8)))
    assert len(copies) == 1
    assert modified(harness, digest) >= old
    assert object_of(harness, digest) == stored
    record = data.get(TENANT, digest)
    assert record.expires_at >= harness.clock() + 7 * DAY
    # and not again: its age began anew.
    harness.clock.advance(5 * DAY)
    data.refer(TENANT, refer, harness.clock())
    assert len(copies) == 1


def test_a_copy_changes_the_age_and_nothing_else(harness: Harness, data: SharedData) -> None:
    for size in (3, 4 * PART_BYTES + 7):
        digest = put(data, stored := content(size))
        client = boto3.client("s3")
        bucket, key = harness.grid.settings.data_bucket, data_key(TENANT, digest)
        before = client.head_object(Bucket=bucket, Key=key)
        # LastModified has whole seconds.
        while (after := client.head_object(Bucket=bucket, Key=key))["LastModified"] == before["LastModified"]:
            data.objects.refresh(key)
        assert after["LastModified"] > before["LastModified"]
        assert after["ContentType"] == before["ContentType"]
        assert object_of(harness, digest) == stored


def test_a_copy_that_fails_is_not_tried_again_that_day_and_the_row_promises_no_more_than_there_is(
    harness: Harness, data: SharedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(data, content())
    seen = data.rows.read(TENANT, digest)
    assert seen
    refer = frozenset({digest})
    harness.clock.now = seen.stored_at + (OBJECT_DAYS - 3) * DAY
    data.rows.write(replace(seen, expires_at=harness.clock() + DAY), seen)
    with monkeypatch.context() as patch:
        patch.setattr(data.objects, "refresh", fail)
        with pytest.raises(ConnectionError):
            data.refer(TENANT, refer, harness.clock())
        data.refer(TENANT, refer, harness.clock())
        record = data.get(TENANT, digest)
        assert record.expires_at <= seen.stored_at + OBJECT_DAYS * DAY + 1_000
    harness.clock.advance(DAY)
    data.refer(TENANT, refer, harness.clock())
    assert data.get(TENANT, digest).expires_at >= harness.clock() + 7 * DAY


def fail(*_: Any) -> None:
    raise ConnectionError("S3 did not answer")


# ---- Deletion -------------------------------------------------------------------------------------------------------


def test_data_is_deleted_with_its_object(harness: Harness, data: SharedData) -> None:
    stored = content()
    digest = put(data, stored)
    assert data.delete(TENANT, digest, force=False).deleted
    assert row(harness, digest) is None
    with pytest.raises(boto3.client("s3").exceptions.NoSuchKey):
        object_of(harness, digest)
    assert not data.delete(TENANT, digest, force=False).deleted
    assert put(data, stored) == digest


def test_data_of_sessions_that_may_run_is_deleted_by_force_alone(harness: Harness, data: SharedData) -> None:
    digest = put(data, content())
    session = harness.grid.submissions.create(TENANT, new_id(), request(digest, session_timeout_seconds=7_200))
    with pytest.raises(DataInUse, match="or force its deletion"):
        data.delete(TENANT, digest, force=False)
    assert data.get(TENANT, digest).state is DataState.THERE
    assert data.delete(TENANT, digest, force=True).deleted
    digest = put(data, content())
    harness.grid.submissions.create(TENANT, new_id(), request(digest, session_timeout_seconds=7_200))
    harness.clock.now = session.deadline_at + HOUR
    assert data.delete(TENANT, digest, force=False).deleted


def test_an_upload_is_deleted_with_its_parts(harness: Harness, data: SharedData) -> None:
    stored = content(PART_BYTES + 1)
    upload(announce(data, stored), stored)
    seen = data.rows.read(TENANT, digest_of(stored))
    assert seen
    assert data.delete(TENANT, seen.sha256, force=False).deleted
    with pytest.raises(boto3.client("s3").exceptions.ClientError, match="NoSuchUpload"):
        boto3.client("s3").list_parts(
            Bucket=harness.grid.settings.data_bucket, Key=data_key(TENANT, seen.sha256), UploadId=seen.upload
        )


def test_what_is_being_deleted_is_missing_and_a_deletion_that_died_is_finished_by_the_next(
    harness: Harness, data: SharedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = content()
    digest = put(data, stored)
    with monkeypatch.context() as patch:
        patch.setattr(data.objects, "delete", fail)
        with pytest.raises(ConnectionError):
            data.delete(TENANT, digest, force=False)
    assert data.get(TENANT, digest).state is DataState.DELETING
    with pytest.raises(DataMissing):
        data.refer(TENANT, frozenset({digest}), harness.clock())
    for ask in (lambda: announce(data, stored), lambda: data.complete(TENANT, digest)):
        with pytest.raises(DataBusy):
            ask()
    # A minute later nobody deletes it any more.
    harness.clock.advance(60_000)
    assert put(data, stored) == digest
    assert data.delete(TENANT, digest, force=False).deleted


# ---- Limits ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(own_harness: Harness) -> SharedData:
    """Shared data of a tenant that may keep a gigabyte."""
    limits = {"data_gigabytes": {"N": "1"}}
    boto3.client("dynamodb").update_item(
        TableName=own_harness.grid.settings.tenants_table,
        Key={"tenant": {"S": TENANT}},
        UpdateExpression="SET #limits = :limits",
        ExpressionAttributeNames={"#limits": "limits"},
        ExpressionAttributeValues={":limits": {"M": limits}},
    )
    return own_harness.grid.shared_data


def want(data: SharedData, number: int, size: int) -> DataPlace:
    return data.put(TENANT, f"{number:064x}", PutData(bytes=size, name="curves"))


def test_a_tenant_keeps_no_more_than_its_limit_and_what_is_uploading_counts(limited: SharedData) -> None:
    with pytest.raises(NotAllowed, match="1000000000 bytes"):
        want(limited, 0, 10**9 + 1)
    want(limited, 1, 6 * 10**8)
    with pytest.raises(QuotaExceeded, match="600000000 bytes of shared data"):
        want(limited, 2, 4 * 10**8 + 1)
    with pytest.raises(DataNotFound):
        limited.get(TENANT, f"{2:064x}")
    want(limited, 3, 4 * 10**8)
    # To ask again for the same counts nothing.
    want(limited, 1, 6 * 10**8)
    limited.delete(TENANT, f"{1:064x}", force=False)
    want(limited, 2, 6 * 10**8)


def test_requests_at_once_do_not_pass_the_limit_together(limited: SharedData) -> None:
    def ask(number: int) -> bool:
        try:
            want(limited, number, 3 * 10**8)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        accepted = sum(threads.map(ask, range(12)))
    kept = [each.size for each in limited.rows.all(TENANT)]
    assert sum(kept) <= 10**9
    assert len(kept) == accepted


def test_what_has_expired_counts_no_more(limited: SharedData, own_harness: Harness) -> None:
    want(limited, 1, 10**9)
    own_harness.clock.advance(DAY + 1_000)
    want(limited, 2, 10**9)


def test_a_tenant_keeps_a_bounded_number_of_data(limited: SharedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("htcgrid_controlplane.rules.quotas.MAX_DATA", 2)
    want(limited, 1, 1)
    want(limited, 2, 1)
    with pytest.raises(QuotaExceeded, match="2 pieces"):
        want(limited, 3, 1)


def test_putting_takes_from_the_rates_of_requests_and_of_bytes(own_harness: Harness) -> None:
    data = own_harness.grid.shared_data
    before = own_harness.grid.tenants.read(TENANT).usage
    want(data, 1, 10**9)
    first = own_harness.grid.tenants.read(TENANT).usage
    assert first.submissions_until > before.submissions_until
    assert first.bytes_until > before.bytes_until
    want(data, 1, 10**9)
    again = own_harness.grid.tenants.read(TENANT).usage
    assert again.submissions_until > first.submissions_until
    assert again.bytes_until == first.bytes_until


# ---- Preloading -----------------------------------------------------------------------------------------------------


def preloads(harness: Harness) -> PreloadStore:
    return PreloadStore(boto3.client("dynamodb"), harness.grid.settings.partitions_table)


def test_a_session_lets_its_partition_preload(own_harness: Harness) -> None:
    data = own_harness.grid.shared_data
    digest = put(data, content())
    # The row says how large it is, whatever the reference does.
    wanted = request(preload=(reference(digest, size=3),))
    session = own_harness.grid.submissions.create(TENANT, new_id(), wanted)
    table = own_harness.grid.settings.partitions_table
    found = boto3.client("dynamodb").get_item(
        TableName=table,
        Key={"partition": {"S": "default"}, "entry": {"S": "preload"}},
        ProjectionExpression="preload",
        ConsistentRead=True,
    )["Item"]
    [(key, entry)] = found["preload"]["M"].items()
    assert key == f"{TENANT}/{digest}"
    assert entry["M"]["bytes"] == {"N": "16"}
    assert entry["M"]["name"] == {"S": "curves"}
    assert entry["M"]["folder"] == {"BOOL": False}
    assert int(entry["M"]["expires_at"]["N"]) * 1000 >= session.deadline_at
    assert data.get(TENANT, digest).needed_until >= session.deadline_at


def test_what_is_missing_cannot_be_preloaded(harness: Harness) -> None:
    with pytest.raises(DataMissing):
        harness.grid.submissions.create(TENANT, new_id(), request(preload=(reference(digest_of(b"never put")),)))


def test_requests_at_once_lose_nothing_of_what_is_preloaded(own_harness: Harness) -> None:
    store = preloads(own_harness)
    now = own_harness.clock()

    def add(number: int) -> None:
        store.add("default", TENANT, [reference(f"{number:064x}")], now + HOUR, now)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(add, range(6)))
    assert store.read("default").keys() == {f"{TENANT}/{number:064x}" for number in range(6)}


def test_a_session_is_accepted_though_its_preload_cannot_be_noted(
    harness: Harness, data: SharedData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digest = put(data, content())
    monkeypatch.setattr(data.preloads, "_table", "no-such-table")
    harness.grid.submissions.create(TENANT, new_id(), request(preload=(reference(digest),)))
    assert "does not preload" in caplog.text
