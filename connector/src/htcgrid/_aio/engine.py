"""One background thread with an event loop, on which everything of a grid happens."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from htcgrid._aio.awaited_work import AwaitedWork, run_by
from htcgrid._aio.process import OwnProcess
from htcgrid.errors import GridError

_T = TypeVar("_T")


class Engine:
    """Runs coroutines for callers that have no event loop of their own. Safe to use from any thread."""

    def __init__(self) -> None:
        self.process = OwnProcess()
        self._loop = asyncio.new_event_loop()
        # Reentrant, since the garbage collector may finish a reader of results while this thread holds it.
        self._closing = threading.RLock()
        self._closed = False
        # A daemon, so that a program which forgets to close its grid still ends.
        self._thread = threading.Thread(target=self._loop.run_forever, name="htcgrid", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of `work`, which is cancelled when the caller is interrupted.

        Raises:
            GridClosed: the engine was closed, or this process was forked after it was started.
        """
        try:
            self._check()
        except GridError:
            work.close()
            raise
        return run_by(self.post, work)

    def post(self, call: Callable[[], object]) -> bool:
        """Have something done soon, without waiting; not at all once the engine is closed. Whether it will be."""
        if not self.process.current:
            return False
        with self._closing:
            if not self._closed:
                self._loop.call_soon_threadsafe(call)
            return not self._closed

    @property
    def is_caller(self) -> bool:
        """Whether the caller runs on the engine's thread."""
        return threading.current_thread() is self._thread

    def _check(self) -> None:
        self.process.check()
        if self.is_caller:
            raise GridError("a callback of the grid cannot wait for the grid: do so from another thread")

    def close(self) -> None:
        """Cancel what still runs and end the thread. Does nothing a second time, or in a forked process."""
        if not self.process.current:
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
        winding_up = AwaitedWork(_wind_up())
        self._loop.call_soon_threadsafe(winding_up.start)
        winding_up.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _wind_up() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
