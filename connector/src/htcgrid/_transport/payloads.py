"""The ways to payloads: presigned URLs of S3, a store that this machine reaches itself, or the grid's API.

The grid gives a link for each payload: a URL is presigned, and a path is one of its API, which also says where the
payload lies in its store.
"""

from typing import TYPE_CHECKING

from htcgrid._transport.authorised import PRECONDITION_FAILED
from htcgrid._transport.direct import DirectStores, NotReached
from htcgrid._transport.presigned import Presigned
from htcgrid._transport.relay import Relay, RelayLink
from htcgrid.errors import RequestRejected, ResultsUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from htcgrid._transport.authorised import Authorised
    from htcgrid._transport.http import Http


class Payloads:
    """Reads and writes payloads by the way that their links allow. Raises as `Api` does besides."""

    def __init__(self, http: "Http", api: "Authorised", direct: DirectStores) -> None:
        self.presigned = Presigned(http)
        self._relay = Relay(api)
        self.direct = direct

    async def put(self, link: str, headers: "Mapping[str, str]", data: bytes, taken: str | None) -> None:
        """Upload a payload, unless it lies there already: an earlier try may have come through.

        `headers` are for a presigned URL. `taken` is where to read what lies there; none if the grid does not say.

        Raises:
            RequestRejected: it was refused, or something else lies there.
        """
        if await self._put(link, headers, data) or (taken and await self._holds(taken, data)):
            return
        raise RequestRejected(
            "other inputs were uploaded for a chunk of this session before: a submission may be repeated, but not "
            "changed",
            status=PRECONDITION_FAILED,
            reason="UploadTaken",
        )

    async def get(self, link: str, size: int | None = None) -> bytes:
        """Download a payload of `size` bytes, where that is known.

        Raises:
            ResultsUnavailable: the link has expired, nothing lies there, or more than any payload has or than `size`.
        """
        place = RelayLink.of(link)
        if place is None:
            return await self.presigned.get(link, size)
        if size not in (None, place.size):
            raise ResultsUnavailable(f"the grid says that a payload has {size} bytes, and that it has {place.size}")
        try:
            return await self.direct.get(place)
        except NotReached:
            return await self._relay.get(place)

    async def _put(self, link: str, headers: "Mapping[str, str]", data: bytes) -> bool:
        place = RelayLink.of(link)
        if place is None:
            return await self.presigned.put(link, headers, data)
        try:
            return await self.direct.put(place, data)
        except NotReached:
            return await self._relay.put(place, data)

    async def _holds(self, link: str, data: bytes) -> bool:
        try:
            return await self.get(link, len(data)) == data
        except ResultsUnavailable:
            return False
