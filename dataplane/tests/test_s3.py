"""The S3 store: what every payload store does, and links for those without credentials."""

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import IncompleteReadError, ReadTimeoutError
from botocore.stub import Stubber
from moto import mock_aws
from urllib3.exceptions import ProtocolError

from htcgrid_dataplane import PayloadCorrupt, PayloadLinks, PayloadMissing, PayloadStore, StoreUnavailable
from htcgrid_dataplane.conformance import StoreConformance
from htcgrid_dataplane.s3 import S3Store

KEY = "tenant/session/results/0.1"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", config=Config(signature_version="s3v4"))
        client.create_bucket(Bucket="payloads")
        yield S3Store(client, "payloads")


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, embedded_environment: dict[str, str]) -> PayloadStore:
        client = boto3.client(
            "s3",
            endpoint_url=embedded_environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=embedded_environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=embedded_environment["AWS_SECRET_ACCESS_KEY"],
            region_name=embedded_environment["AWS_REGION"],
        )
        client.create_bucket(Bucket="conformance")
        return S3Store(client, "conformance")


def test_it_fulfils_both_interfaces(store: S3Store) -> None:
    payloads: PayloadStore = store
    links: PayloadLinks = store
    assert callable(payloads.put)
    assert callable(links.upload_url)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
def test_what_was_put_is_got(store: S3Store, data: bytes) -> None:
    store.put(KEY, data)
    store.put(KEY, data)
    assert store.get(KEY, len(data)) == data
    assert b"".join(store.stream(KEY, len(data))) == data


def test_what_was_never_put_is_missing_and_asking_again_is_of_no_use(store: S3Store) -> None:
    with pytest.raises(PayloadMissing, match=KEY) as missing:
        store.get(KEY, 1)
    assert not missing.value.retryable


@pytest.mark.parametrize(("size", "said"), [(10, "more than its 10"), (12, "only 11 of its 12")])
def test_what_has_another_size_than_announced_is_refused(store: S3Store, size: int, said: str) -> None:
    store.put(KEY, b"x" * 11)
    with pytest.raises(PayloadCorrupt, match=said) as refusal:
        store.get(KEY, size)
    assert not refusal.value.retryable


def test_no_more_is_asked_for_than_was_announced(store: S3Store) -> None:
    store.put(KEY, bytes(10_000_000))
    asked: list[str] = []
    events = store._client.meta.events
    events.register("before-sign.s3.GetObject", lambda request, **rest: asked.append(request.headers["Range"]))
    with pytest.raises(PayloadCorrupt, match="more than its 1 bytes"):
        store.get(KEY, 1)
    assert asked == ["bytes=0-1"]


class _Cut:
    """A body that ends too early, or never comes."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.closed = False

    def read(self, amount: int | None = None) -> bytes:
        raise self._error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "error",
    [IncompleteReadError(actual_bytes=1, expected_bytes=2), ReadTimeoutError(endpoint_url="x"), ProtocolError()],
)
def test_a_body_that_is_cut_may_be_whole_later(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    body = _Cut(error)
    monkeypatch.setattr(store, "_body", lambda key, size: body)
    with pytest.raises(StoreUnavailable, match="all of") as refusal:
        store.get(KEY, 2)
    assert refusal.value.retryable
    assert body.closed


MIB = 1024 * 1024


@pytest.fixture
def uploads(store: S3Store) -> Callable[[], list[str]]:
    """The uploads in parts that are neither finished nor aborted."""

    def names() -> list[str]:
        return [upload["Key"] for upload in store._client.list_multipart_uploads(Bucket="payloads").get("Uploads", [])]

    return names


def losing_answers(store: S3Store, operation: str, statuses: list[int]) -> list[int]:
    """Let the next answers of an operation be these; 0 is that of S3. Gives what is left of them."""

    def answer(request: AWSPreparedRequest, **rest: object) -> Any:
        status = statuses.pop(0) if statuses else 0
        body = SimpleNamespace(stream=lambda **rest: [b""])
        return AWSResponse(request.url, status, HTTPHeaders(), body) if status else None

    store._client.meta.events.register_first(f"before-send.s3.{operation}", answer)
    return statuses


def refusing(store: S3Store, operation: str) -> None:
    """Let S3 refuse an operation once."""
    events, answers = store._client.meta.events, [{"Error": {"Code": "Oh", "Message": "no"}}]

    def refuse(**call: object) -> Any:
        return (SimpleNamespace(status_code=403), answers.pop()) if answers else None

    events.register(f"before-call.s3.{operation}", refuse)


@pytest.mark.parametrize("size", [16 * MIB, 16 * MIB + 1])
def test_what_is_larger_than_16_mib_goes_in_parts(store: S3Store, size: int) -> None:
    asked: list[str] = []
    store._client.meta.events.register("before-call.s3", lambda model, **rest: asked.append(model.name))
    store.put(KEY, bytes(size))
    assert store.get(KEY, size) == bytes(size)
    begun, ended = ["CreateMultipartUpload"], ["CompleteMultipartUpload"]
    in_parts = [*begun, *["UploadPart"] * 3, *ended, *["GetObject"] * 3]
    assert asked == (["PutObject", "GetObject"] if size == 16 * MIB else in_parts)


def test_a_part_that_fails_is_sent_again(store: S3Store, uploads: Callable[[], list[str]]) -> None:
    data = secrets.token_bytes(20 * MIB)
    left = losing_answers(store, "UploadPart", [500, 0, 503, 500])
    store.put(KEY, data)
    assert not left
    assert store.get(KEY, len(data)) == data
    assert not uploads()


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_fails_leaves_nothing(store: S3Store, uploads: Callable[[], list[str]], operation: str) -> None:
    refusing(store, operation)
    with pytest.raises(StoreUnavailable, match=f"did not take {KEY} .{20 * MIB} bytes"):
        store.put(KEY, bytes(20 * MIB))
    assert not uploads()
    with pytest.raises(PayloadMissing):
        store.get(KEY, 20 * MIB)
    store.put(KEY, bytes(20 * MIB))
    assert store.get(KEY, 20 * MIB) == bytes(20 * MIB)


def test_an_upload_that_cannot_be_aborted_is_told_as_what_it_is(
    store: S3Store, uploads: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    refusing(store, "UploadPart")
    refusing(store, "AbortMultipartUpload")
    with pytest.raises(StoreUnavailable, match="UploadPart"):
        store.put(KEY, bytes(20 * MIB))
    assert uploads() == [KEY]
    assert f"parts of {KEY} stay until the bucket removes them" in caplog.text


def test_parts_are_never_of_two_objects(store: S3Store) -> None:
    size = 48 * MIB
    store.put(KEY, b"1" * size)
    parts = store.stream(KEY, size)
    assert set(next(parts)) == {ord("1")}
    store.put(KEY, b"2" * size)
    with pytest.raises(StoreUnavailable, match="was replaced while it was read") as refusal:
        assert {byte for part in parts for byte in set(part)} == {ord("1")}
    assert refusal.value.retryable
    assert store.get(KEY, size) == b"2" * size


@pytest.mark.parametrize(("found", "announced"), [(0, 20 * MIB), (11, 20 * MIB), (21 * MIB, 20 * MIB)])
def test_a_large_payload_of_another_size_is_refused_before_much_of_it_is_read(
    store: S3Store, found: int, announced: int
) -> None:
    store.put(KEY, bytes(found))
    asked: list[str] = []
    store._client.meta.events.register("before-call.s3.GetObject", lambda model, **rest: asked.append(model.name))
    with pytest.raises(PayloadCorrupt, match=f"{KEY} has {found} bytes, and not {announced}"):
        store.get(KEY, announced)
    assert len(asked) == 1


@pytest.mark.parametrize(("cuts", "first"), [(2, 0), (2, 1), (3, 0), (3, 1)])
def test_a_large_payload_whose_parts_are_cut_is_read_again(
    store: S3Store, monkeypatch: pytest.MonkeyPatch, cuts: int, first: int
) -> None:
    data = secrets.token_bytes(20 * MIB)
    store.put(KEY, data)
    bodies: list[_Cut] = []
    get, numbers = store._client.get_object, count()

    def cut(**request: Any) -> Any:
        answer: Any = get(**request)
        if next(numbers) >= first and len(bodies) < cuts and request["Range"].startswith(f"bytes={first * 8 * MIB}-"):
            bodies.append(_Cut(ProtocolError()))
            answer["Body"] = bodies[-1]
        return answer

    monkeypatch.setattr(store._client, "get_object", cut)
    if cuts == 3:
        with pytest.raises(StoreUnavailable, match=f"all of {KEY}"):
            store.get(KEY, len(data))
    assert store.get(KEY, len(data)) == data
    assert len(bodies) == cuts


def test_no_more_parts_are_held_than_are_on_their_way(store: S3Store) -> None:
    size = 80 * MIB
    store.put(KEY, bytes(size))
    asked: list[str] = []
    store._client.meta.events.register("before-call.s3.GetObject", lambda model, **rest: asked.append(model.name))
    parts = store.stream(KEY, size)
    next(parts)
    assert len(asked) <= 5
    parts.close()  # type: ignore[attr-defined]
    assert len(asked) <= 5


def test_a_store_that_does_not_answer_may_answer_later(store: S3Store) -> None:
    nowhere = S3Store(boto3.client("s3", region_name="us-east-1"), "no-such-bucket")
    large = 20 * MIB
    for request in (
        lambda: nowhere.put(KEY, b"x"),
        lambda: nowhere.put(KEY, bytes(large)),
        lambda: nowhere.get(KEY, 1),
        lambda: nowhere.get(KEY, large),
    ):
        with pytest.raises(StoreUnavailable) as refusal:
            request()
        assert refusal.value.retryable


@pytest.mark.parametrize("size", [1, 20 * MIB])
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        # Who may list nothing is told so of an object that is not there, in the newer and in the older words.
        ('User: arn:aws:sts::1:role/a is not authorized to perform: s3:ListBucket on resource: "arn"', PayloadMissing),
        ("Access Denied", PayloadMissing),
        ("User: arn:aws:sts::1:role/a is not authorized to perform: kms:Decrypt on this resource", StoreUnavailable),
    ],
)
def test_what_s3_denies_to_a_role_that_lists_nothing_is_missing(size: int, said: str, kind: type[Exception]) -> None:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    denied = Stubber(client)
    denied.add_client_error("get_object", "AccessDenied", said, 403)
    with denied, pytest.raises(kind, match=KEY):
        S3Store(client, "payloads").get(KEY, size)


def test_links_name_one_payload_for_a_while(store: S3Store) -> None:
    for url in (store.upload_url(KEY, 7, timedelta(minutes=5)), store.download_url(KEY, timedelta(minutes=5))):
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        assert parts.path.endswith(KEY)
        assert query["X-Amz-Expires"] == ["300"]
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    signed = parse_qs(urlsplit(store.upload_url(KEY, 7, timedelta(minutes=5))).query)["X-Amz-SignedHeaders"]
    assert signed == ["content-length;content-type;host;if-none-match"]
    assert store.upload_headers == {"Content-Type": "application/zlib", "If-None-Match": "*"}
