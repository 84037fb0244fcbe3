"""Large objects of S3, moved in parts, several at a time."""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectOutputTypeDef, GetObjectRequestTypeDef

_LOG = logging.getLogger(__name__)

LARGE: Final = 16 * 1024 * 1024
"""Bytes of the largest object that is moved by one request."""
PART: Final = 8 * 1024 * 1024
"""Bytes of a part; S3 takes no less than 5 MiB, and 10,000 parts at most ("Amazon S3 multipart upload limits")."""
PARTS_AT_ONCE: Final = 4
"""Parts on their way at a time, of all objects together; of one that is read so many are held, too."""
_TRIES: Final = 3
"""How often a part is read whose connection breaks: a client repeats a request by itself, and no answer."""
BODY_CUT: Final = (BotoCoreError, HTTPError)
"""What reading the body of an answer raises."""


class S3Parts:
    """Puts and reads the large objects of one bucket. Thread-safe."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(PARTS_AT_ONCE, "s3-part")

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object, of which nothing is seen until all of it is there.

        Raises:
            ClientError, BotoCoreError: see `S3Client`; nothing is left of the upload.
        """
        begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
        upload = begun["UploadId"]
        try:
            parts = self._upload(key, upload, memoryview(data))
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            self._abort(key, upload)
            raise

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """Read an object, part by part in its order.

        Raises:
            PayloadMissing, PayloadCorrupt, StoreUnavailable: see `PayloadStore.stream`.
        """
        first, etag = self._first(key, size)
        starts = iter(range(PART, size, PART))

        def ask(parts: int) -> Iterator["Future[bytes]"]:
            return (self._pool.submit(self._part, key, start, size, etag) for start in islice(starts, parts))

        ahead = deque(ask(PARTS_AT_ONCE))
        try:
            yield first
            while ahead:
                part = ahead.popleft().result()
                ahead.extend(ask(1))
                yield part
        finally:
            for waiting in ahead:
                waiting.cancel()

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """Read some bytes of an object.

        Raises:
            PayloadMissing, PayloadCorrupt, StoreUnavailable: see `PayloadRelay.read`.
        """
        # Its size is told with a byte of it.
        start = min(offset, max(0, size - 1))
        part, found, _ = self._range(key, start, max(offset + length, start + 1))
        _check(key, found, size)
        return part[offset - start : offset - start + length]

    def _upload(self, key: str, upload: str, data: memoryview) -> "list[CompletedPartTypeDef]":
        starts = range(0, len(data), PART)
        jobs = [
            self._pool.submit(self._upload_part, key, upload, number, data[start : start + PART])
            for number, start in enumerate(starts, 1)
        ]
        try:
            return [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()
            # A part that arrives after the upload was aborted would stay.
            wait(jobs)

    def _upload_part(self, key: str, upload: str, number: int, data: memoryview) -> "CompletedPartTypeDef":
        answer = self._client.upload_part(
            Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=bytes(data)
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except (ClientError, BotoCoreError) as error:
            _LOG.warning("parts of %s stay until the bucket removes them: %s", key, error)

    def _first(self, key: str, size: int) -> tuple[bytes, str]:
        """The first part, and the ETag of the object that the others must be of."""
        part, found, etag = self._range(key, 0, PART)
        _check(key, found, size)
        return part, etag

    def _part(self, key: str, start: int, size: int, etag: str) -> bytes:
        return self._range(key, start, min(start + PART, size), etag)[0]

    def _range(self, key: str, start: int, end: int, etag: str | None = None) -> tuple[bytes, int, str]:
        """These bytes of an object, how many it has, and its ETag."""
        tries = 0
        while True:
            tries += 1
            answer = open_range(self._client, self._bucket, key, start, end, etag)
            if answer is None:
                return b"", 0, ""
            try:
                part = answer["Body"].read()
            except BODY_CUT as error:
                if tries == _TRIES:
                    raise StoreUnavailable(f"S3 did not give all of {key}: {error}") from error
            else:
                return part, int(answer["ContentRange"].rpartition("/")[2]), answer["ETag"]


def _check(key: str, found: int, size: int) -> None:
    if found != size:
        raise PayloadCorrupt(f"the payload {key} has {found} bytes, and not {size}")


def open_range(
    client: "S3Client", bucket: str, key: str, start: int, end: int, etag: str | None = None
) -> "GetObjectOutputTypeDef | None":
    """Ask for the bytes of an object from `start` to before `end`; None if it has none there.

    Raises:
        PayloadMissing: there is no such object.
        StoreUnavailable: S3 did not answer, or what lies there is no longer what had this ETag.
    """
    request: GetObjectRequestTypeDef = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{end - 1}"}
    if etag:
        request["IfMatch"] = etag
    try:
        return client.get_object(**request)
    except client.exceptions.NoSuchKey as error:
        raise PayloadMissing(f"no payload lies under {key}") from error
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "InvalidRange":
                return None
            case "AccessDenied" if "kms" not in str(error).lower():
                # Roles of a grid may read what they are told of, and list nothing: to them S3 says so of an object that
                # is not there ("GetObject", Amazon S3 API Reference).
                raise PayloadMissing(f"no payload lies under {key} that this role may read") from error
            case "PreconditionFailed":
                raise StoreUnavailable(f"the payload {key} was replaced while it was read") from error
        raise StoreUnavailable(f"S3 did not give {key}: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"S3 did not give {key}: {error}") from error
