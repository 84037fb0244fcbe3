"""The interface that every payload store fulfils, and how payloads are named in it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final, Protocol, runtime_checkable

RELAY_PART_BYTES: Final = 4 * 1024 * 1024
"""The size of every part of an upload but its last. The grid's API passes on no larger ones."""


DEFAULT_STORE: Final = "s3"
"""The name of the store on the grid's bucket: where a payload lies of which nothing else is noted."""


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


class NotedStores(Protocol):
    """Finds the store of a payload by the name that was noted with it; see `htcgrid_dataplane.stores.Stores`."""

    def holding(self, name: str) -> PayloadStore:
        """The store that has the payload.

        Raises:
            StoreUnavailable: it cannot be reached, or is not known here.
        """


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


@runtime_checkable
class PayloadRelay(Protocol):
    """Gives and takes payloads in parts, so that those who cannot reach the store are served through the grid's API.

    An upload is one way to write one payload. Its name is made by whoever uploads, so that each request of it may be
    repeated; uploads of the same key do not meet until one of them is finished. What is left unfinished expires.
    """

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on of what lies under `key`, which was announced to have `size` bytes; fewer
        where it ends before.

        Raises:
            PayloadMissing: nothing lies there.
            PayloadCorrupt: it has another size.
            StoreUnavailable: the store could not be reached.
        """

    def put_part(self, key: str, upload: str, offset: int, part: bytes) -> None:
        """Keep a part of an upload, unseen by readers. The parts come in order, each but the last of
        `RELAY_PART_BYTES`. A part may be put again; what comes after the upload is finished changes nothing, and may be
        refused as one whose parts are missing.

        Args:
            key: where the payload will lie.
            upload: names the upload: 32 hexadecimal digits.
            offset: where in the payload the part begins, in bytes.
            part: its bytes.

        Raises:
            PayloadMissing: parts before it are missing: the upload has expired. `finish` may say so in its place.
            StoreUnavailable: the store could not be reached.
        """

    def finish(self, key: str, upload: str, size: int) -> bool:
        """Make the parts of an upload, `size` bytes together, the payload under `key`; false if another payload lies
        there, which stays. Repeating it changes nothing, and gives what the first call gave.

        Raises:
            PayloadMissing: parts of the upload are missing.
            StoreUnavailable: the store could not be reached.
        """


@runtime_checkable
class TendedStore(Protocol):
    """A store that does not forget by itself: whoever uses it looks after it now and then."""

    def tend(self, pause: Callable[[float], bool]) -> int | None:
        """Remove what has expired, if it is time for that. It takes long, and leaves the store time for others.

        Args:
            pause: waits for so many seconds, and says whether to stop.

        Returns:
            How many payloads were removed; None if it is not yet time, or somebody else does it.

        Raises:
            StoreUnavailable: the store could not be reached.
        """


def input_key(tenant: str, session_id: str, chunk: int, edition: str = "") -> str:
    """Where the inputs of a chunk lie; changed ones are another `edition`. The tenant comes first, so that no id made
    by a client reaches another's."""
    return f"{tenant}/{session_id}/inputs/{chunk}{'.' if edition else ''}{edition}"


def result_key(tenant: str, session_id: str, chunk: int, attempt: int) -> str:
    """Where the results of one attempt at a chunk lie. A late attempt has another key, which no row refers to."""
    return f"{tenant}/{session_id}/results/{chunk}.{attempt}"


def data_key(tenant: str, sha256: str) -> str:
    """Where shared data of a tenant lies, always in the grid's bucket. No session has the id `data`."""
    return f"{tenant}/data/{sha256}"


def may_be_replaced(key: str) -> bool:
    """Whether what lies under a key may be the checkpoint of an attempt, which later results replace."""
    return key.rpartition("/")[0].endswith("/results")
