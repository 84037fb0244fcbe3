"""The objects of shared data in the grid's bucket: uploaded by presigned URLs, in one PUT or in parts."""

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_dataplane.errors import PayloadMissing, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MIB = 1024 * 1024
PART_BYTES = 16 * MIB
"""Of each part of an upload but the last. An object of at most as many bytes is one PUT. The largest shared data has
320 parts; S3 takes 10,000, and lists 1,000 at once ("Amazon S3 multipart upload limits")."""
_CONTENT_TYPE = "application/octet-stream"
_ABSENT = frozenset({"404", "403", "NoSuchKey"})
"""What S3 says of an object that is not there: 403 to whoever may not list the bucket ("HeadObject", API Reference)."""
_COPY = TransferConfig(multipart_threshold=4 * PART_BYTES, multipart_chunksize=4 * PART_BYTES, max_concurrency=10)
"""One request would copy 5 GiB for longer than an answer of the API may take."""


class StoredObject(NamedTuple):
    """What lies under a key."""

    size: int
    modified: datetime


class UploadGone(PayloadMissing):
    """Raised when there is no upload in parts of this id any more: it was completed or aborted."""


class SharedObjects:
    """Lends uploads of single objects of one bucket, and completes, refreshes and deletes them.

    Whatever asks S3 for something raises `StoreUnavailable` when that refused or did not answer.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put_url(self, key: str, size: int, sha256: str, valid_for: timedelta) -> str:
        """A URL for one PUT of `size` bytes with this SHA-256 (hexadecimal) and the `put_headers` of it: S3 refuses
        other bytes."""
        place = {"Bucket": self._bucket, "Key": key, "ContentType": _CONTENT_TYPE, "ContentLength": size}
        place["ChecksumSHA256"] = _base64_of(sha256)
        return self._client.generate_presigned_url("put_object", Params=place, ExpiresIn=_seconds(valid_for))

    def put_headers(self, sha256: str) -> dict[str, str]:
        """Headers that the PUT must carry."""
        return {"Content-Type": _CONTENT_TYPE, "x-amz-checksum-sha256": _base64_of(sha256)}

    def begin_parts(self, key: str) -> str:
        """Begin an upload in parts. Gives its id."""
        try:
            begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=_CONTENT_TYPE)
        except (ClientError, BotoCoreError) as error:
            raise StoreUnavailable(f"S3 began no upload of {key}: {error}") from error
        return begun["UploadId"]

    def part_urls(self, key: str, upload: str, size: int, valid_for: timedelta) -> list[str]:
        """A URL for each part of an upload of `size` bytes, which takes exactly the bytes of that part."""
        return [
            self._client.generate_presigned_url(
                "upload_part",
                Params={
                    "Bucket": self._bucket,
                    "Key": key,
                    "UploadId": upload,
                    "PartNumber": number,
                    "ContentLength": length,
                },
                ExpiresIn=_seconds(valid_for),
            )
            for number, length in enumerate(part_sizes(size), 1)
        ]

    def complete_parts(self, key: str, upload: str, size: int) -> Sequence[int]:
        """Make the object of the uploaded parts, if all are there; gives the numbers of those that are not.

        Raises:
            UploadGone: the upload is over.
        """
        try:
            listed = self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=upload).get("Parts", [])
            parts = {part["PartNumber"]: part for part in listed}
            wanted = dict(enumerate(part_sizes(size), 1))
            missing = [number for number, length in wanted.items() if parts.get(number, {}).get("Size") != length]
            if not missing:
                named = [{"PartNumber": number, "ETag": parts[number]["ETag"]} for number in wanted]
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload,
                    MultipartUpload={"Parts": named},  # type: ignore[typeddict-item]
                )
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchUpload":
                raise UploadGone(f"the upload of {key} is over") from error
            raise StoreUnavailable(f"S3 did not complete the upload of {key}: {error}") from error
        return missing

    def abort_parts(self, key: str, upload: str) -> None:
        """Forget an upload and its parts; nothing if it is over."""
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except (ClientError, BotoCoreError) as error:
            if not (isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchUpload"):
                raise StoreUnavailable(f"S3 did not abort the upload of {key}: {error}") from error

    def stored(self, key: str) -> StoredObject | None:
        """What lies under a key; none if nothing does."""
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in _ABSENT:
                return None
            raise StoreUnavailable(f"S3 did not say whether there is {key}: {error}") from error
        return StoredObject(found["ContentLength"], found["LastModified"])

    def refresh(self, key: str) -> None:
        """Copy an object onto itself, so that its age, by which the bucket expires it, begins anew."""
        source = {"Bucket": self._bucket, "Key": key}
        extra = {"MetadataDirective": "REPLACE", "ContentType": _CONTENT_TYPE}
        try:
            self._client.copy(source, self._bucket, key, ExtraArgs=extra, Config=_COPY)  # type: ignore[arg-type]
        except (ClientError, BotoCoreError) as error:
            raise StoreUnavailable(f"S3 did not copy {key} onto itself: {error}") from error

    def delete(self, key: str) -> None:
        """Delete an object; nothing if there is none."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise StoreUnavailable(f"S3 did not delete {key}: {error}") from error

    def download_url(self, key: str, valid_for: timedelta) -> str:
        """A URL from which an object can be fetched."""
        place = {"Bucket": self._bucket, "Key": key}
        return self._client.generate_presigned_url("get_object", Params=place, ExpiresIn=_seconds(valid_for))


def part_sizes(size: int) -> Iterator[int]:
    """The bytes of each part of an upload."""
    for start in range(0, size, PART_BYTES):
        yield min(PART_BYTES, size - start)


def _base64_of(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _seconds(valid_for: timedelta) -> int:
    return int(valid_for.total_seconds())
