"""The S3 store: what every payload store does, and links for those without credentials."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import IncompleteReadError, ReadTimeoutError
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

    def read(self, amount: int) -> bytes:
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


def test_a_store_that_does_not_answer_may_answer_later(store: S3Store) -> None:
    nowhere = S3Store(boto3.client("s3", region_name="us-east-1"), "no-such-bucket")
    for request in (lambda: nowhere.put(KEY, b"x"), lambda: nowhere.get(KEY, 1)):
        with pytest.raises(StoreUnavailable) as refusal:
            request()
        assert refusal.value.retryable


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
