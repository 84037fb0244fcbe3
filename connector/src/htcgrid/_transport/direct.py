"""Payloads in stores that this machine reaches itself, without the grid's API between them."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar, runtime_checkable

from htcgrid.errors import RequestRejected, ResultsUnavailable
from htcgrid_dataplane import (
    RELAY_PART_BYTES,
    DataPlaneError,
    PayloadRelay,
    PayloadStore,
    StoreMisconfigured,
    StoreUnavailable,
)
from htcgrid_dataplane.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from htcgrid._transport.relay import RelayLink

_LEFT_ALONE_SECONDS = 60.0
"""How long payloads go through the API after a store could not be reached."""

_IMPATIENT = {"redis": {"patience_seconds": "5"}}
"""Settings, unless the profile says otherwise: a client has another way, and need not wait for a failover's end."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class NotReached(Exception):
    """Raised when this machine does not reach the store: the payload has to go through the API."""


@runtime_checkable
class DirectStore(PayloadStore, PayloadRelay, Protocol):
    """What a store must be for clients to use it directly."""


class DirectStores:
    """The stores that the profile describes, each opened when it is used first.

    Reading and writing raise `NotReached` where the profile does not describe the store, or it does not answer; it is
    then left alone for a while.
    """

    def __init__(
        self,
        settings: "Mapping[str, Mapping[str, str]]",
        tenant: Callable[[], Awaitable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`settings` are by the name of the store; `tenant` asks the grid who the user is."""
        self._settings = settings
        self._ask_tenant = tenant
        self._clock = clock
        self._tenant = ""
        self._stores: dict[str, DirectStore] = {}
        self._left_alone: dict[str, tuple[float, str]] = {}
        """Until when, and why."""
        self._told: set[str] = set()
        self._opening = asyncio.Lock()

    async def put(self, link: "RelayLink", data: bytes) -> bool:
        """Write a payload; false if another one lies there already.

        Raises:
            RequestRejected: the store lost parts of it.
        """
        try:
            return await self._with(link, lambda store, key: _put(store, key, data))
        except DataPlaneError as error:
            raise RequestRejected(str(error), status=0, reason="UploadRefused") from error

    async def get(self, link: "RelayLink") -> bytes:
        """Read a payload.

        Raises:
            ResultsUnavailable: nothing lies there, or something of another size.
        """
        try:
            return await self._with(link, lambda store, key: _get(store, key, link.size))
        except DataPlaneError as error:
            raise ResultsUnavailable(str(error)) from error

    async def check(self, name: str) -> None:
        """Open a store. Raises `NotReached` with the reason."""
        await self._store(name)

    def place(self, name: str) -> str | None:
        """Where the store with this name is; None if the profile does not describe it."""
        settings = self._settings.get(name)
        if settings is None:
            return None
        return f"{name} at {place}" if (place := settings.get("url", settings.get("folder"))) else name

    async def _with(self, link: "RelayLink", work: Callable[[DirectStore, str], _T]) -> _T:
        store = await self._store(link.store)
        if not self._tenant:
            self._tenant = await self._ask_tenant()
        try:
            return await asyncio.to_thread(work, store, f"{self._tenant}/{link.below_tenant}")
        except StoreUnavailable as error:
            self._leave_alone(link.store, error)

    async def _store(self, name: str) -> DirectStore:
        if name not in self._settings:
            raise NotReached
        async with self._opening:
            until, reason = self._left_alone.get(name, (float("-inf"), ""))
            if self._clock() < until:
                raise NotReached(reason)
            if name not in self._stores:
                try:
                    self._stores[name] = await asyncio.to_thread(self._open, name)
                except (DataPlaneError, ImportError) as error:
                    self._leave_alone(name, error)
        return self._stores[name]

    def _open(self, name: str) -> DirectStore:
        store = open_store(name, _IMPATIENT.get(name, {}) | dict(self._settings[name]), _NoBucket())
        if not isinstance(store, DirectStore):
            raise StoreMisconfigured(f"the store '{name}' does not take payloads in parts, as clients give them")
        return store

    def _leave_alone(self, name: str, error: Exception) -> NoReturn:
        reason = f"{error} (pip install 'htcgrid[{name}]')" if isinstance(error, ImportError) else str(error)
        self._left_alone[name] = (self._clock() + _LEFT_ALONE_SECONDS, reason)
        if name not in self._told:
            self._told.add(name)
            _log.warning("payloads go through the API, since %s is not reached: %s", self.place(name), reason)
        raise NotReached(reason) from error


class _NoBucket:
    """In place of the store on the grid's bucket, to which clients have presigned URLs alone."""

    def put(self, key: str, data: bytes) -> NoReturn:
        raise StoreMisconfigured("clients do not write to the grid's bucket themselves")

    def get(self, key: str, size: int) -> NoReturn:
        raise StoreMisconfigured("clients do not read from the grid's bucket themselves")

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        self.get(key, size)


def _put(store: DirectStore, key: str, data: bytes) -> bool:
    upload = secrets.token_hex(16)
    for offset in range(0, len(data), RELAY_PART_BYTES):
        store.put_part(key, upload, offset, data[offset : offset + RELAY_PART_BYTES])
    return store.finish(key, upload, len(data))


def _get(store: DirectStore, key: str, size: int) -> bytes:
    whole = BytesIO()  # gives its bytes without a copy of them
    for part in store.stream(key, size):
        whole.write(part)
    return whole.getvalue()
