"""How other threads reach the event loop of a client."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from htcgrid._aio.awaited_work import run_by

if TYPE_CHECKING:
    from htcgrid._core.client import Client

_T = TypeVar("_T")


class ClientLoop(Protocol):
    """The event loop of a client: that of a `Connection`, or the user's own."""

    @property
    def client(self) -> "Client":
        """The client that belongs to the loop."""

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of `work`, waited for in another thread. Raises `GridClosed` when the loop has ended."""

    def post(self, call: Callable[[], object]) -> bool:
        """Have something done soon, without waiting. Whether it will be."""


class UserLoop:
    """The user's own event loop, on which this is made."""

    def __init__(self, client: "Client") -> None:
        self.client = client
        self._loop = asyncio.get_running_loop()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """See `ClientLoop.run`."""
        return run_by(self.post, work)

    def post(self, call: Callable[[], object]) -> bool:
        """See `ClientLoop.post`."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop was closed
            return False
        return True
