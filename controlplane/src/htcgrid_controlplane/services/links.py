"""Says where clients reach payloads: at presigned URLs, or at paths of the API where none leads to the store."""

from dataclasses import dataclass
from datetime import timedelta

from htcgrid_controlplane.rules.payload_paths import path_of
from htcgrid_controlplane.rules.request_faults import PAYLOAD_TYPE
from htcgrid_dataplane import DEFAULT_STORE, PayloadLinks

LINK_TIME = timedelta(minutes=15)
"""How long a presigned URL is good for."""


@dataclass(frozen=True)
class Links:
    """Links to payloads."""

    presigned: PayloadLinks
    """To those in the bucket."""

    def download(self, tenant: str, key: str, store: str, size: int) -> str:
        """Where a tenant can fetch its payload of `size` bytes, which lies under `key` in a store."""
        if store == DEFAULT_STORE:
            return self.presigned.download_url(key, LINK_TIME)
        return path_of(tenant, key, store, size)

    def upload(self, tenant: str, key: str, store: str, size: int) -> str:
        """Where a tenant can put a payload of `size` bytes, if nothing lies there yet."""
        if store == DEFAULT_STORE:
            return self.presigned.upload_url(key, size, LINK_TIME)
        return path_of(tenant, key, store, size)

    def upload_headers(self, store: str) -> dict[str, str]:
        """Headers that a request to such a place must carry."""
        return self.presigned.upload_headers if store == DEFAULT_STORE else {"Content-Type": PAYLOAD_TYPE}
