"""A client for AWS that costs a fraction of the processor time of a general one.

An agent makes about one request per task at chunk_size=1, and through boto3 it takes 1.4 to 1.7 times the processor
time for a task (docs/adr/0012). So botocore gives the credentials, the region and the endpoint,
as for every AWS client; signing, sending and retrying are here.
"""

import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape, unescape

import botocore.session
import urllib3
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, NoRegionError
from prometheus_client import Counter

from htcgrid_agent.aws.breaker import CircuitBreaker
from htcgrid_agent.aws.endpoints import (
    configured_endpoint,
    connection_pool,
    public_endpoint,
)
from htcgrid_agent.aws.signing import (
    Keys,
    Signer,
)
from htcgrid_agent.errors import CircuitOpen, is_transient
from htcgrid_chunks.backoff import Backoff

_MAX_TRIES: Final = 4
_SUCCESS: Final = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NO_CONTENT})
_LATE_REFUSALS: Final = frozenset({"CompleteMultipartUpload"})
"""Operations whose success S3 announces before it has an outcome ("CompleteMultipartUpload", S3 API Reference)."""
_BACKOFF: Final = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=2))


@dataclass(frozen=True)
class ClientConfig:
    """What a client of one service is made of."""

    session: botocore.session.Session
    breaker: CircuitBreaker
    requests: Counter
    """Counts requests by operation and error."""
    connections: int
    read_timeout: timedelta
    sleep: Callable[[float], None] = time.sleep


class Service:
    """Signed requests to one service. Thread-safe."""

    def __init__(self, name: str, url: str, region: str, config: ClientConfig) -> None:
        """Look up the credentials.

        Raises:
            NoCredentialsError: there are none.
        """
        credentials = config.session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        self._name = name
        self._credentials = credentials
        self._signer = Signer(name, region)
        self._config = config
        self._host = urlsplit(url).netloc
        self._pool = connection_pool(url, config.session, config.connections, config.read_timeout)

    def send(
        self, operation: str, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str = ""
    ) -> urllib3.BaseHTTPResponse:
        """Make one request, and retry it after a backoff while its failure is transient.

        `query` is encoded and sorted by its names.

        Raises:
            ClientError: the service refused.
            HTTPClientError: it could not be reached, or its circuit breaker is open (`CircuitOpen`).
        """
        breaker, retry = self._config.breaker, 0
        while True:
            retry += 1
            if not breaker.allows():
                raise CircuitOpen(service=self._name, seconds=breaker.seconds_left)
            try:
                answer = self._send_once(operation, method, path, headers, body, query)
            except HTTPClientError:
                self._note(operation, "unreachable", transient=True)
                if retry == _MAX_TRIES:
                    raise
            except ClientError as error:
                transient = is_transient(error)
                self._note(operation, error.response["Error"]["Code"], transient=transient)
                if retry == _MAX_TRIES or not transient:
                    raise
            else:
                self._note(operation, "", transient=False)
                return answer
            self._config.sleep(_BACKOFF.wait(retry, random.random).total_seconds())

    def _send_once(
        self, operation: str, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str
    ) -> urllib3.BaseHTTPResponse:
        frozen = self._credentials.get_frozen_credentials()
        keys = Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)
        signed = self._signer.sign(method, path, {**headers, "host": self._host}, body, keys, datetime.now(UTC), query)
        url = f"{path}?{query}" if query else path
        try:
            # Not decoded: what somebody stored with a content encoding must not expand here.
            response = self._pool.urlopen(
                method, url, body=body, headers=signed, retries=False, redirect=False, decode_content=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise HTTPClientError(error=error) from error
        status = response.status
        if status == HTTPStatus.OK and operation in _LATE_REFUSALS and b"<Error>" in response.data:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        if status not in _SUCCESS:
            code, message = _refusal(response.data)
            raise ClientError(
                {
                    "Error": {"Code": code or str(status), "Message": message},
                    "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
                },
                operation,
            )
        return response

    def _note(self, operation: str, error: str, *, transient: bool) -> None:
        self._config.requests.labels(operation, error).inc()
        if transient:
            self._config.breaker.failed()
        else:
            self._config.breaker.succeeded()


class JsonClient:
    """A service with a JSON protocol: DynamoDB or SQS."""

    _TARGETS: Final = {"dynamodb": "DynamoDB_20120810", "sqs": "AmazonSQS"}

    def __init__(self, name: str, config: ClientConfig) -> None:
        """Look up the endpoint and the credentials.

        Raises:
            NoRegionError, NoCredentialsError: there is none.
        """
        region = _region(config.session)
        url = configured_endpoint(name, config.session) or public_endpoint(name, region, config.session)
        self._target = self._TARGETS[name]
        self._service = Service(name, url, region, config)

    def call(self, operation: str, request: Mapping[str, object]) -> dict[str, Any]:
        """Make one request. Raises as `Service.send` does."""
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"{self._target}.{operation}"}
        body = json.dumps(request, separators=(",", ":")).encode()
        data = self._service.send(operation, "POST", "/", headers, body).data
        try:
            answer = json.loads(data) if data else {}
        except ValueError as error:
            raise HTTPClientError(error=f"{operation} was answered with what is not JSON") from error
        if not isinstance(answer, dict):
            raise HTTPClientError(error=f"{operation} was answered with what is not a JSON object")
        return answer


class ObjectClient:
    """The objects of one bucket of S3."""

    def __init__(self, bucket: str, config: ClientConfig) -> None:
        """Look up the endpoint and the credentials.

        Raises:
            NoRegionError, NoCredentialsError: there is none.
        """
        region = _region(config.session)
        url = configured_endpoint("s3", config.session)
        self._folder = f"/{bucket}"
        if url is None:
            url = public_endpoint("s3", region, config.session)
            if "." not in bucket:
                # A bucket has a host of its own; one with dots has none that a certificate could name.
                url, self._folder = url.replace("https://", f"https://{bucket}."), ""
        self._service = Service("s3", url, region, config)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object. Raises as `Service.send` does."""
        self._service.send("PutObject", "PUT", self._path(key), {"content-type": content_type}, data)

    def get(self, key: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Fetch an object, or the range of it that the headers name. Raises as `Service.send` does."""
        return self._service.send("GetObject", "GET", self._path(key), headers, b"")

    def begin_upload(self, key: str, content_type: str) -> str:
        """Begin an object in parts, and give the id of the upload. Raises as `Service.send` does."""
        path, headers = self._path(key), {"content-type": content_type}
        answer = self._service.send("CreateMultipartUpload", "POST", path, headers, b"", "uploads=")
        return _element(answer.data, b"UploadId")

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Store a part of an upload, and give its ETag. Raises as `Service.send` does."""
        query = f"partNumber={number}&{_upload_query(upload)}"
        return self._service.send("UploadPart", "PUT", self._path(key), {}, data, query).headers["etag"]

    def end_upload(self, key: str, upload: str, etags: Sequence[tuple[int, str]]) -> None:
        """Make the object of its parts: their numbers, and their ETags. Raises as `Service.send` does."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>" for number, etag in etags
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        headers = {"content-type": "application/xml"}
        self._service.send("CompleteMultipartUpload", "POST", self._path(key), headers, body, _upload_query(upload))

    def drop_upload(self, key: str, upload: str) -> None:
        """Remove the parts of an upload that does not come to its end. Raises as `Service.send` does."""
        self._service.send("AbortMultipartUpload", "DELETE", self._path(key), {}, b"", _upload_query(upload))

    def _path(self, key: str) -> str:
        return f"{self._folder}/{quote(key, safe='/~')}"


def _region(session: botocore.session.Session) -> str:
    region = session.get_config_variable("region")
    if not region:
        raise NoRegionError
    return str(region)


def _upload_query(upload: str) -> str:
    return f"uploadId={quote(upload, safe='~')}"


def _element(data: bytes, name: bytes) -> str:
    """The text of an element of an answer in XML; empty if it has none."""
    found = re.search(rb"<%s>([^<]*)</%s>" % (name, name), data)
    return unescape(found[1].decode(errors="replace")) if found else ""


def _refusal(data: bytes) -> tuple[str, str]:
    """The code and the message of an error answer, in JSON or XML."""
    try:
        said = json.loads(data)
    except ValueError:
        return _element(data, b"Code"), _element(data, b"Message")
    if not isinstance(said, dict):
        return "", ""
    code = str(said.get("__type") or said.get("code") or "").rpartition("#")[2]
    return code, str(said.get("message") or said.get("Message") or "")
