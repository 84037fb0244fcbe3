"""A client and the thread it runs in: what a grid and its sessions share."""

import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from htcgrid._aio.engine import Engine
from htcgrid._core.client import Client
from htcgrid._follow.delivery import DeliveryThread

if TYPE_CHECKING:
    from htcgrid.options import Notifications
    from htcgrid.profile import Profile

_T = TypeVar("_T")


class Connection:
    """Runs the asynchronous client for callers in other threads. Lives as long as its grid or any of its sessions."""

    def __init__(self, engine: Engine, client: Client) -> None:
        self.client = client
        self.delivery = DeliveryThread()
        self._engine = engine
        # Also when the program ends, or lets go of everything, without closing anything.
        self._end = weakref.finalize(self, _shut, engine, client, self.delivery)

    @classmethod
    def open(
        cls,
        profile: "Profile",
        username: str | None,
        password: str | None,
        request_timeout: timedelta,
        notifications: "Notifications",
    ) -> Self:
        """Start a thread and sign in. Raises as `Client.connect` does."""
        engine = Engine()
        try:
            client = engine.run(Client.connect(profile, username, password, request_timeout, notifications))
        except BaseException:
            engine.close()
            raise
        return cls(engine, client)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """See `Engine.run`."""
        return self._engine.run(work)

    def iterate(self, pages: AsyncIterator[Iterable[_T]]) -> Iterator[_T]:
        """What lies on the pages, one by one, each page asked for when the one before has been read."""
        while (page := self.run(_next(pages))) is not None:
            yield from page

    def post(self, call: Callable[[], object]) -> bool:
        """See `Engine.post`."""
        return self._engine.post(call)

    def check_process(self) -> None:
        """Raises `GridClosed` in a forked process. To be called before a lock is taken, which might be held there by
        a thread that does not exist."""
        self._engine.process.check()

    def close(self) -> None:
        """Drop the connections and end the thread. A second call does nothing, nor does one in a forked process."""
        self._end()


async def _next(pages: AsyncIterator[_T]) -> _T | None:
    return await anext(pages, None)


def _shut(engine: Engine, client: Client, delivery: DeliveryThread) -> None:
    if not engine.process.current:
        return
    if engine.is_caller:  # let go of by a coroutine of its own, which cannot wait for its own end
        threading.Thread(target=_shut, args=(engine, client, delivery), name="htcgrid end", daemon=True).start()
        return
    engine.run(client.close())
    engine.close()
    delivery.close()
