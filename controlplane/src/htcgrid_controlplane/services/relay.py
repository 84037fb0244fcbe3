"""Takes inputs from clients and passes payloads on to them, where they cannot reach the store themselves.

A payload travels in parts, since an answer of the API holds 6 MB at most. What a part is allowed to be is known from
its own request, so no part needs a session, a row or the function that served the one before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from htcgrid_controlplane.errors import PartRefused, PayloadExists, UnknownStore
from htcgrid_controlplane.rules.payload_paths import is_part
from htcgrid_controlplane.services.links import Links
from htcgrid_controlplane.services.quotas import Quotas
from htcgrid_dataplane import DEFAULT_STORE, PayloadMissing, PayloadRelay, StoreMisconfigured, input_key
from htcgrid_dataplane.stores import Stores
from htcgrid_events import RELAY_PART_BYTES, UploadPlaces


@dataclass(frozen=True)
class Upload:
    """One way to put the inputs of a chunk, in parts."""

    session_id: str
    chunk: int
    store: str
    size: int
    """Bytes of all parts together."""
    name: str
    """Tells it from others of the same inputs; made by the client."""


@dataclass(frozen=True)
class Relay:
    """Gives clients access to payloads."""

    stores: Stores
    links: Links
    quotas: Quotas

    def places(self, tenant: str, session_id: str, sizes: Mapping[int, int]) -> UploadPlaces:
        """Where a tenant may put the inputs of chunks, which have so many bytes: once, so that what a task was given
        stays what it was. A client that repeats an upload sees by `taken` that it was its own.

        Raises:
            QuotaExceeded, NotAllowed: the tenant may not store so much.
        """
        store = self.stores.noted
        # What comes in parts is counted part by part.
        self.quotas.store(tenant, sum(sizes.values()) if store == DEFAULT_STORE else 0, submissions=1)
        keys = {chunk: input_key(tenant, session_id, chunk) for chunk in sizes}
        return UploadPlaces(
            urls={chunk: self.links.upload(tenant, keys[chunk], store, size) for chunk, size in sizes.items()},
            headers=self.links.upload_headers(store),
            taken={chunk: self.links.download(tenant, keys[chunk], store, size) for chunk, size in sizes.items()},
            store=store,
        )

    def read(self, key: str, store: str, size: int, offset: int) -> bytes:
        """A part of the payload of `size` bytes under `key`: up to `RELAY_PART_BYTES` from `offset` on.

        Raises:
            UnknownStore: the grid has no such store, or passes none of its payloads on.
            PartRefused: the payload ends before.
            PayloadMissing, PayloadCorrupt, StoreUnavailable: see `PayloadRelay.read`.
        """
        if offset >= size:
            raise PartRefused(f"A payload of {size} bytes has no part at {offset}.")
        return self._relay(store).read(key, size, offset, RELAY_PART_BYTES)

    def write(self, tenant: str, upload: Upload, offset: int, part: bytes) -> None:
        """Take a part of an upload; the last one makes it the inputs of its chunk. Repeating it changes nothing.

        Raises:
            UnknownStore: the grid has no such store, or takes no payloads of it.
            PartRefused: this is none of the parts in which so many bytes are put.
            QuotaExceeded, NotAllowed: the tenant may not store so much.
            PayloadExists: another payload lies there, and stays.
            PayloadMissing: parts before it are missing: the upload is to begin anew.
            StoreUnavailable: the store could not be reached.
        """
        if not is_part(upload.size, offset, len(part)):
            raise PartRefused(
                f"Of {upload.size} bytes, {len(part)} from {offset} on are no part: each has {RELAY_PART_BYTES} bytes, "
                "and the last one the rest."
            )
        relay = self._relay(upload.store)
        self.quotas.store(tenant, len(part))
        key = input_key(tenant, upload.session_id, upload.chunk)
        is_last = offset + len(part) == upload.size
        try:
            relay.put_part(key, upload.name, offset, part)
        except PayloadMissing:
            # An upload that is finished has no parts: its last one may be put again, as after an answer that was lost.
            if not is_last:
                raise
        except StoreMisconfigured as error:
            raise UnknownStore(f"The store '{upload.store}' takes no payloads here: {error}.") from error
        if is_last and not relay.finish(key, upload.name, upload.size):
            raise PayloadExists("Another payload lies in this place: what a task was given stays what it was.")

    def _relay(self, store: str) -> PayloadRelay:
        if store not in self.stores.names:
            raise UnknownStore.of(store, self.stores.names)
        opened = self.stores.holding(store)
        if not isinstance(opened, PayloadRelay):
            raise UnknownStore(f"Payloads of the store '{store}' are not passed on: they have presigned URLs.")
        return opened
