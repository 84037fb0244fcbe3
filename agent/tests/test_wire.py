"""Requests to AWS without boto3 are the same requests."""

import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import botocore.session
import pytest
import urllib3
from agent.tests.harness import Place
from agent.tests.proxy import Fate, Network, network
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, NoRegionError
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.aws.boto_shaped import s3
from htcgrid_agent.aws.breaker import CircuitBreaker
from htcgrid_agent.aws.client import (
    ClientConfig,
    JsonClient,
    ObjectClient,
)
from htcgrid_agent.aws.endpoints import configured_endpoint, public_endpoint
from htcgrid_agent.aws.signing import (
    Keys,
    Signer,
)
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_chunks.backoff import Backoff
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, StoreUnavailable
from htcgrid_dataplane.s3 import S3Store

words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=40)


@given(
    words,
    words,
    st.none() | words,
    st.binary(),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
    st.sampled_from(
        [
            ("sqs", "POST", "/", ""),
            ("s3", "PUT", "/bucket/a%20b/c.1", ""),
            ("s3", "GET", "/t/s/inputs/7", ""),
            ("s3", "POST", "/t/s/results/7.1", "uploads="),
            ("s3", "PUT", "/t/s/results/7.1", "partNumber=12&uploadId=a.b~c_%2B%2F%3D"),
        ]
    ),
)
def test_signatures_are_those_of_botocore(
    access: str, secret: str, token: str | None, body: bytes, moment: datetime, target: tuple[str, str, str, str]
) -> None:
    service, method, path, query = target
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "A.B", "host": "eu-west-1.aws:444"}
    keys = Keys(access, secret, token)
    signed = Signer(service, "eu-west-1").sign(method, path, headers, body, keys, moment.replace(tzinfo=UTC), query)
    make = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = make(Credentials(access, secret, token), service, "eu-west-1")
    url = f"https://eu-west-1.aws:444{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=headers, data=body)
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    if service == "s3":
        request.context["payload_signing_enabled"] = True
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    if token:
        request.headers["X-Amz-Security-Token"] = token
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert signed["authorization"].endswith(f"Signature={signature}")
    assert f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}," in signed["authorization"]


@dataclass
class Service:
    """Answers as told, and keeps what it was asked."""

    answers: list[tuple[int, bytes] | None]
    requests: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, service: Service) -> Iterator[JsonClient]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            target = self.headers["x-amz-target"]
            service.requests.append((target or self.path, json.loads(body) if target else {}))
            answer = service.answers.pop(0)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("content-length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.delenv("AWS_ENDPOINT_URL_SQS", raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        client = JsonClient("sqs", reach(service))
        yield client
        server.shutdown()
        thread.join()


def reach(service: Service) -> ClientConfig:
    return ClientConfig(
        session=botocore.session.get_session(),
        breaker=CircuitBreaker("sqs", 100, Backoff()),
        requests=Metrics().requests,
        connections=1,
        read_timeout=timedelta(seconds=5),
        sleep=service.waits.append,
    )


def refusal(code: str) -> bytes:
    return json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "no"}).encode()


def test_a_request_names_its_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service([(200, b'{"Messages": []}')])
    with serving(monkeypatch, service) as client:
        assert client.call("ReceiveMessage", {"QueueUrl": "u"}) == {"Messages": []}
    assert service.requests == [("AmazonSQS.ReceiveMessage", {"QueueUrl": "u"})]


def test_what_may_pass_is_tried_again_after_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service([(500, b"<html>"), (400, refusal("ThrottlingException")), None, (200, b"{}")])
    with serving(monkeypatch, service) as client:
        assert client.call("DeleteMessageBatch", {}) == {}
    assert len(service.requests) == 4
    assert len(service.waits) == 3


def test_what_will_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service([(403, refusal("AccessDeniedException"))])
    with serving(monkeypatch, service) as client, pytest.raises(ClientError) as caught:
        client.call("ReceiveMessage", {})
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize("answer", [(503, b""), None])
def test_there_is_an_end_to_trying(monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes] | None) -> None:
    service = Service([answer] * 4)
    with serving(monkeypatch, service) as client, pytest.raises((ClientError, HTTPClientError)):
        client.call("ReceiveMessage", {})
    assert len(service.requests) == 4


def test_without_region_or_credentials_there_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(NoRegionError):
        JsonClient("sqs", reach(Service([])))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with pytest.raises(NoCredentialsError):
        JsonClient("sqs", reach(Service([])))


def test_objects_come_back_from_the_embedded_aws_as_they_were(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    store = S3Store(s3(ObjectClient(place.mark, reach(Service([])))), place.mark)
    data = bytes(range(256)) * 1000
    store.put("tenant+1 ü/session/results/0.1", data)
    assert store.get("tenant+1 ü/session/results/0.1", len(data)) == data
    assert place.payloads.get("tenant+1 ü/session/results/0.1", len(data)) == data
    with pytest.raises(PayloadCorrupt, match="more than its 9 bytes"):
        store.get("tenant+1 ü/session/results/0.1", 9)
    with pytest.raises(PayloadMissing):
        store.get("tenant/other", 1)


@pytest.fixture
def wired(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """The embedded AWS behind a network, as the environment of this process."""
    with network(place.embedded.url) as net:
        for name, value in place.environment().items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", net.url)
        yield net


def test_large_objects_go_in_parts_some_of_which_fail(place: Place, wired: Network) -> None:
    store = S3Store(s3(ObjectClient(place.mark, reach(Service([])))), place.mark)
    data = secrets.token_bytes(40 * 1024 * 1024 + 1)
    fates = {name: [Fate.DROP, Fate.RESET, Fate.FAIL] for name in ("PutObject", "GetObject")}
    wired.before = lambda request: fates[request.name].pop() if fates.get(request.name) else Fate.PASS
    store.put("tenant+1 ü/session/results/0.1", data)
    assert store.get("tenant+1 ü/session/results/0.1", len(data)) == data
    assert place.payloads.get("tenant+1 ü/session/results/0.1", len(data)) == data
    assert [wired.count(name) for name in fates] == [6 + 3] * 2


def test_an_upload_in_parts_that_fails_is_aborted(place: Place, wired: Network) -> None:
    store = S3Store(s3(ObjectClient(place.mark, reach(Service([])))), place.mark)
    key = "tenant/aborted/results/0.1"
    parts = count(1)
    wired.before = lambda request: (
        Fate.FAIL if request.name == "PutObject" and next(parts) > 2 else Fate.PASS  # the parts of an upload are PUT
    )
    with pytest.raises(StoreUnavailable, match="did not take"):
        store.put(key, bytes(40 * 1024 * 1024))
    assert wired.count("DELETE") == 1
    with pytest.raises(PayloadMissing):
        place.payloads.get(key, 40 * 1024 * 1024)


def test_a_refusal_that_comes_after_success_was_announced_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code><Message>We failed</Message></Error>"
    service = Service([(200, refused), (200, b"<CompleteMultipartUploadResult/>"), *[(200, refused)] * 4])
    with serving(monkeypatch, service):
        objects = ObjectClient("data", reach(service))
        objects.end_upload("a/b", "upload", [(1, '"etag"')])
        assert len(service.answers) == 4
        with pytest.raises(ClientError, match=r"InternalError.*We failed"):
            objects.end_upload("a/b", "upload", [(1, '"etag"')])


@pytest.mark.parametrize(
    ("bucket", "region", "host", "path"),
    [
        ("data", "eu-west-1", "data.s3.eu-west-1.amazonaws.com", "/a/b%20c"),
        ("data", "cn-north-1", "data.s3.cn-north-1.amazonaws.com.cn", "/a/b%20c"),
        ("my.data", "eu-west-1", "s3.eu-west-1.amazonaws.com", "/my.data/a/b%20c"),
    ],
)
def test_buckets_are_found_where_aws_has_them(
    monkeypatch: pytest.MonkeyPatch, bucket: str, region: str, host: str, path: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    asked: list[tuple[str, str]] = []

    def urlopen(pool: urllib3.HTTPSConnectionPool, method: str, url: str, **options: object) -> object:
        asked.append((pool.host, url))
        raise urllib3.exceptions.HTTPError

    monkeypatch.setattr(urllib3.HTTPSConnectionPool, "urlopen", urlopen)
    with pytest.raises(HTTPClientError):
        ObjectClient(bucket, reach(Service([]))).get("a/b c", {})
    assert set(asked) == {(host, path)}


def test_a_service_may_have_an_endpoint_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://queues.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://rows.example")
    session = botocore.session.Session()
    found = [configured_endpoint(service, session) for service in ("sqs", "dynamodb", "s3")]
    assert found == ["http://queues.example", "http://rows.example", "http://all.example"]


def test_queues_and_rows_are_where_the_run_says(place: Place, service_endpoints: dict[str, str]) -> None:
    url = service_endpoints.get("AWS_ENDPOINT_URL_SQS", place.embedded.url)
    assert all(queue.startswith(f"{url}/") for queue in place.queue_urls.values())
    rows = service_endpoints.get("AWS_ENDPOINT_URL_DYNAMODB", place.embedded.url)
    assert place.dynamodb.meta.endpoint_url == rows


def test_endpoints_are_those_that_botocore_names_in_every_partition() -> None:
    session = botocore.session.get_session()
    resolver = session.get_component("endpoint_resolver")
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    regions = [name for partition in partitions for name in partition["regions"] if not name.endswith("-global")]
    # Newer than botocore's data: their partition is told by their name.
    regions += ["cn-east-9", "us-gov-south-9", "eusc-de-west-9", "us-west-9", "us-isob-north-9"]
    assert len(regions) > 40
    for region in regions:
        for service in ("sqs", "dynamodb", "s3"):
            host = resolver.construct_endpoint(service, region)["hostname"]
            assert public_endpoint(service, region, session) == f"https://{host}"
