"""Payloads in Amazon S3: durable, unlimited, and reachable by presigned URL."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_dataplane.errors import PayloadCorrupt, StoreUnavailable
from htcgrid_dataplane.s3_parts import BODY_CUT, LARGE, S3Parts, open_range

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client

_CONTENT_TYPE = "application/zlib"
_ABSENT = "*"
"""The condition that nothing lies under a key ("How to prevent object overwrites with conditional writes", S3)."""
_READ = 1024 * 1024


class S3Store:
    """A `PayloadStore` with `PayloadLinks` over one bucket. The bucket's own settings encrypt and expire objects."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._parts = S3Parts(client, bucket)

    def put(self, key: str, data: bytes) -> None:
        """See `PayloadStore.put`."""
        try:
            if len(data) > LARGE:
                self._parts.put(key, data, _CONTENT_TYPE)
            else:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=_CONTENT_TYPE)
        except (ClientError, BotoCoreError) as error:
            raise StoreUnavailable(f"S3 did not take {key} ({len(data)} bytes): {error}") from error

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        return b"".join(self.stream(key, size))

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        return self._parts.stream(key, size) if size > LARGE else self._stream_small(key, size)

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """See `PayloadRelay.read`."""
        return self._parts.read(key, size, offset, length)

    def _stream_small(self, key: str, size: int) -> Iterator[bytes]:
        received = 0
        with closing(self._body(key, size)) as body:
            while part := self._read(key, body):
                received += len(part)
                if received > size:
                    raise PayloadCorrupt(f"the payload {key} has more than its {size} bytes")
                yield part
        if received < size:
            raise PayloadCorrupt(f"the payload {key} has only {received} of its {size} bytes")

    def _body(self, key: str, size: int) -> "StreamingBody | BytesIO":
        # S3 sends one byte more than was announced, and never the rest of an object that is larger.
        answer = open_range(self._client, self._bucket, key, 0, size + 1)
        return answer["Body"] if answer else BytesIO()

    @staticmethod
    def _read(key: str, body: "StreamingBody | BytesIO") -> bytes:
        try:
            return body.read(_READ)
        except BODY_CUT as error:
            raise StoreUnavailable(f"S3 did not give all of {key}: {error}") from error

    def upload_url(self, key: str, size: int, valid_for: timedelta) -> str:
        """See `PayloadLinks.upload_url`."""
        # What is signed must be sent: an upload of another size is refused, and so is one over another.
        place = {"Bucket": self._bucket, "Key": key, "ContentType": _CONTENT_TYPE, "ContentLength": size}
        place["IfNoneMatch"] = _ABSENT
        return self._client.generate_presigned_url("put_object", Params=place, ExpiresIn=_seconds(valid_for))

    def download_url(self, key: str, valid_for: timedelta) -> str:
        """See `PayloadLinks.download_url`."""
        place = {"Bucket": self._bucket, "Key": key}
        return self._client.generate_presigned_url("get_object", Params=place, ExpiresIn=_seconds(valid_for))

    @property
    def upload_headers(self) -> dict[str, str]:
        """See `PayloadLinks.upload_headers`."""
        return {"Content-Type": _CONTENT_TYPE, "If-None-Match": _ABSENT}


def _seconds(valid_for: timedelta) -> int:
    return int(valid_for.total_seconds())
