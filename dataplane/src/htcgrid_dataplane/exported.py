"""Reads what hosts write to a file system that exports its files to the grid's bucket: Amazon FSx for Lustre.

The file system exports a file some time after it was closed, as the object whose key is a prefix and the file's path
("Automatically export updates to your S3 bucket", FSx for Lustre). Until then the bucket has nothing, or what the file
held before. Nothing is written here: of two that write the same file none is known to win.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Never, Protocol, runtime_checkable

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.filesystem import payload_path
from htcgrid_dataplane.store import PayloadStore

_MOST_AWAITED: Final = 10_000
"""Payloads of which it is known since when they are awaited."""


@runtime_checkable
class RangedStore(PayloadStore, Protocol):
    """A store that gives any part of a payload."""

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """See `PayloadRelay.read`."""


class ExportedStore:
    """A `PayloadStore` and `PayloadRelay` for reading alone. Thread-safe."""

    def __init__(
        self,
        bucket: RangedStore,
        prefix: str,
        patience: timedelta = timedelta(minutes=10),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what lies in `bucket` below `prefix`.

        Args:
            bucket: the store on the bucket that the file system exports to.
            prefix: where the store's folder is exported to.
            patience: for so long after it was first asked for, a payload that is not there is said to be not yet
                exported, so that it is asked for again; then it is missing.
            clock: seconds that only grow.
        """
        self._bucket = bucket
        self._prefix = prefix
        self._patience = patience.total_seconds()
        self._clock = clock
        self._awaited_since: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        with self._exported(key):
            return self._bucket.get(self._object(key), size)

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        with self._exported(key):
            yield from self._bucket.stream(self._object(key), size)

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """See `PayloadRelay.read`."""
        with self._exported(key):
            return self._bucket.read(self._object(key), size, offset, length)

    def put(self, key: str, data: bytes) -> None:
        """Nothing is written here.

        Raises:
            StoreMisconfigured: always.
        """
        self._refuse()

    def put_part(self, key: str, upload: str, offset: int, part: bytes) -> None:
        """See `put`."""
        self._refuse()

    def finish(self, key: str, upload: str, size: int) -> bool:
        """See `put`."""
        self._refuse()

    @staticmethod
    def _refuse() -> Never:
        raise StoreMisconfigured("what a file system exports is only read: clients upload to S3 or to the mount itself")

    def _object(self, key: str) -> str:
        return f"{self._prefix}{payload_path(key)}"

    @contextmanager
    def _exported(self, key: str) -> Iterator[None]:
        try:
            yield
        except (PayloadMissing, PayloadCorrupt) as error:
            # Another size is that of a checkpoint, which the results have replaced meanwhile.
            if self._waited(key) < self._patience:
                raise StoreUnavailable(f"the payload {key} has not been exported yet: {error}") from error
            raise type(error)(f"the payload {key} was not exported: {error}") from error
        if key in self._awaited_since:
            with self._lock:
                self._awaited_since.pop(key, None)

    def _waited(self, key: str) -> float:
        with self._lock:
            since = self._awaited_since.setdefault(key, self._clock())
            if len(self._awaited_since) > _MOST_AWAITED:
                self._awaited_since.popitem(last=False)
        return self._clock() - since
