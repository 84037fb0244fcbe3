"""Paths of the API at which clients reach payloads that no presigned URL leads to. Pure."""

from urllib.parse import urlencode

from htcgrid_events import RELAY_PART_BYTES


def path_of(tenant: str, key: str, store: str, size: int) -> str:
    """Where the tenant's payload under `key`, which has `size` bytes, can be fetched or put in parts. It says nothing
    of whose payload it is: that the token does."""
    query = urlencode({"store": store, "size": size})
    return f"/payloads/{key.removeprefix(f'{tenant}/')}?{query}"


def payload_key(tenant: str, session_id: str, kind: str, name: str) -> str:
    """Under which key a payload of the tenant lies to which such a path leads."""
    return f"{tenant}/{session_id}/{kind}/{name}"


def is_part(size: int, offset: int, length: int) -> bool:
    """Whether so many bytes are one of the parts in which a payload of `size` bytes is put."""
    return 0 <= offset < size and offset % RELAY_PART_BYTES == 0 and length == min(RELAY_PART_BYTES, size - offset)
