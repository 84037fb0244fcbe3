"""Payloads by presigned URLs, which S3 answers."""

from typing import TYPE_CHECKING

from htcgrid._transport.authorised import PRECONDITION_FAILED, REFUSED_FROM
from htcgrid._transport.parts import assembled
from htcgrid.errors import RequestRejected, ResultsUnavailable
from htcgrid_events import MAX_STORED_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from htcgrid._transport.http import Http

ONE_REQUEST_BYTES = 16 * 1024 * 1024
"""What is larger is downloaded in ranges: one connection to S3 gives some 90 MB/s at most ("Performance guidelines for
Amazon S3")."""

RANGE_BYTES = 8 * 1024 * 1024
"""Bytes of each range ("Performance guidelines for Amazon S3": 8 to 16 MB)."""

_PARTIAL_CONTENT = 206


class Presigned:
    """Reads and writes at presigned URLs. Raises as `Http.send` does besides."""

    def __init__(self, http: "Http") -> None:
        self._http = http

    async def put(self, url: str, headers: "Mapping[str, str]", data: bytes) -> bool:
        """Upload a payload; false if one lies there already.

        Raises:
            RequestRejected: it was refused.
        """
        response = await self._http.send("PUT", url, headers=headers, content=data)
        if response.status_code == PRECONDITION_FAILED:
            return False
        if response.status_code >= REFUSED_FROM:
            raise RequestRejected(
                f"the data plane refused an upload of {len(data)} bytes with status {response.status_code}",
                status=response.status_code,
                reason="UploadRefused",
            )
        return True

    async def get(self, url: str, size: int | None) -> bytes:
        """Download a payload of `size` bytes, where that is known: a large one in several ranges at a time.

        Raises:
            ResultsUnavailable: the URL has expired, nothing lies there, or something of another size.
        """
        limit = MAX_STORED_BYTES if size is None else size
        if size is None or size <= ONE_REQUEST_BYTES:
            return _checked(await self._http.send("GET", url, max_bytes=limit), limit)
        first = await self._range(url, 0, RANGE_BYTES - 1, limit)
        if first.status_code != _PARTIAL_CONTENT:  # all of it: who answers knows no ranges
            return _checked(first, limit)
        unchanged = {"if-match": tag} if (tag := first.headers.get("etag")) else {}

        async def read(offset: int, length: int) -> bytes:
            # The last range asks for a byte more than was announced, which shows an object that is larger.
            last = offset + length - (offset + length < size)
            answer = await self._range(url, offset, last, length, unchanged)
            part = _checked(answer, length)
            if len(part) < length or answer.status_code != _PARTIAL_CONTENT:
                raise ResultsUnavailable(f"the data plane gave another part of a payload than bytes {offset} to {last}")
            return part

        return await assembled(_checked(first, RANGE_BYTES), size, RANGE_BYTES, read)

    async def part(self, url: str, offset: int, length: int) -> bytes:
        """Download some bytes of what lies there.

        Raises:
            ResultsUnavailable: the URL has expired, nothing lies there, or less than these.
        """
        response = await self._range(url, offset, offset + length - 1, length)
        part = _checked(response, length)
        if len(part) != length or response.status_code != _PARTIAL_CONTENT:
            raise ResultsUnavailable(f"the data plane gave other bytes than {offset} to {offset + length}")
        return part

    async def _range(
        self, url: str, begin: int, last: int, max_bytes: int, unchanged: "Mapping[str, str] | None" = None
    ) -> "httpx.Response":
        headers = {"range": f"bytes={begin}-{last}", **(unchanged or {})}
        return await self._http.send("GET", url, headers=headers, max_bytes=max_bytes)


def _checked(response: "httpx.Response", limit: int) -> bytes:
    if response.status_code >= REFUSED_FROM:
        raise ResultsUnavailable(f"the data plane refused a result with status {response.status_code}")
    if len(response.content) > limit:
        raise ResultsUnavailable(f"the data plane holds more than the {limit} bytes of this payload")
    return response.content
