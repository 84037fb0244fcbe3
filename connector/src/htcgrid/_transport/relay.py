"""Payloads through the grid's API, part by part: for stores that no presigned URL reaches."""

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from htcgrid._transport.authorised import PRECONDITION_FAILED, REFUSED_FROM, error_body
from htcgrid._transport.parts import assembled
from htcgrid.errors import RequestRejected, ResultsUnavailable, UnexpectedAnswer
from htcgrid_events import MAX_STORED_BYTES, RELAY_PART_BYTES

if TYPE_CHECKING:
    from typing import Self

    from htcgrid._transport.authorised import Authorised

_CONTENT_TYPE = "application/zlib"


@dataclass(frozen=True, slots=True)
class RelayLink:
    """The place of a payload as a path of the grid's API."""

    path: str
    """With its query."""
    below_tenant: str
    """The payload's key without the tenant that it begins with."""
    store: str
    """The name of the store that has the payload."""
    size: int
    """Bytes of the payload."""

    @classmethod
    def of(cls, link: str) -> "Self | None":
        """What a link says; None for a presigned URL.

        Raises:
            UnexpectedAnswer: it is a path, but not that of a payload.
        """
        if not link.startswith("/"):
            return None
        place = urlsplit(link)
        _, root, *parts = place.path.split("/")
        query = parse_qs(place.query)
        try:
            [store], [size] = query["store"], map(int, query["size"])
        except (KeyError, ValueError):
            store, size = "", -1
        if place.netloc or root != "payloads" or len(parts) != _PARTS_OF_A_KEY or not 0 <= size <= MAX_STORED_BYTES:
            raise UnexpectedAnswer(
                f"the grid names the place {place.path} for a payload, which this connector does not understand: "
                "are their versions the same?"
            )
        return cls(link, "/".join(parts), store, size)


_PARTS_OF_A_KEY = 3
"""Session, inputs or results, and name."""


class Relay:
    """Reads and writes payloads by requests to the API. Raises as `Authorised.send` does besides."""

    def __init__(self, api: "Authorised") -> None:
        self._api = api

    async def put(self, link: RelayLink, data: bytes) -> bool:
        """Upload a payload in parts, one after the other; false if another one lies there already.

        Raises:
            RequestRejected: it was refused.
        """
        upload = secrets.token_hex(16)
        for offset in range(0, len(data), RELAY_PART_BYTES):
            response = await self._api.send(
                "PUT",
                f"{link.path}&offset={offset}&upload={upload}",
                data[offset : offset + RELAY_PART_BYTES],
                content_type=_CONTENT_TYPE,
            )
            if response.status_code == PRECONDITION_FAILED:
                return False
            if response.status_code >= REFUSED_FROM:
                body = error_body(response)
                raise RequestRejected(
                    f"the grid refused an upload of {len(data)} bytes with status {response.status_code}: "
                    f"{body.message}",
                    status=response.status_code,
                    reason=body.error,
                )
        return True

    async def get(self, link: RelayLink) -> bytes:
        """Download a payload, several parts at a time.

        Raises:
            ResultsUnavailable: nothing lies there, or something of another size.
        """

        async def read(offset: int, length: int) -> bytes:
            response = await self._api.send("GET", f"{link.path}&offset={offset}", None, max_bytes=RELAY_PART_BYTES)
            if response.status_code >= REFUSED_FROM:
                said = error_body(response).message
                raise ResultsUnavailable(f"the grid refused a payload with status {response.status_code}: {said}")
            if len(response.content) != length:
                raise ResultsUnavailable(
                    f"the grid gave another part of a payload than bytes {offset} to {offset + length}"
                )
            return response.content

        return await assembled(b"", link.size, RELAY_PART_BYTES, read)
