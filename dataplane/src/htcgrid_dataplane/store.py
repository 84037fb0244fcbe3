"""The interface that every payload store fulfils, and how payloads are named in it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol


class PayloadStore(Protocol):
    """Keeps blobs by key. A put may be repeated, and what is put later replaces what lies there: the results of an
    attempt replace its checkpoints."""

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, durably when this returns.

        Raises:
            StoreUnavailable: the store could not be reached.
        """

    def get(self, key: str, size: int) -> bytes:
        """What lies under `key`, which was announced to have `size` bytes.

        Raises:
            PayloadMissing: nothing does.
            PayloadCorrupt: it has another size; of one that is larger only a little more is read.
            StoreUnavailable: the store could not be reached.
        """

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """As `get`, in parts, for those who need not have all of it in memory. It may be left before its end."""


class PayloadLinks(Protocol):
    """Lends access to single payloads to those who hold no credentials of the store."""

    def upload_url(self, key: str, size: int, valid_for: timedelta) -> str:
        """A URL to which one payload of `size` bytes can be PUT under `key`, with `upload_headers`, if nothing lies
        there yet; else it answers 412."""

    def download_url(self, key: str, valid_for: timedelta) -> str:
        """A URL from which the payload under `key` can be fetched."""

    @property
    def upload_headers(self) -> dict[str, str]:
        """Headers that a PUT to an upload URL must carry."""


def input_key(tenant: str, session_id: str, chunk: int, edition: str = "") -> str:
    """Where the inputs of a chunk lie; changed ones are another `edition`. The tenant comes first, so that no id made
    by a client reaches another's."""
    return f"{tenant}/{session_id}/inputs/{chunk}{'.' if edition else ''}{edition}"


def result_key(tenant: str, session_id: str, chunk: int, attempt: int) -> str:
    """Where the results of one attempt at a chunk lie. A late attempt has another key, which no row refers to."""
    return f"{tenant}/{session_id}/results/{chunk}.{attempt}"
