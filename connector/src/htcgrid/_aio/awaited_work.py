"""A coroutine that runs on an event loop and is waited for by another thread."""

import asyncio
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from htcgrid.errors import GridClosed

_T = TypeVar("_T")


class AwaitedWork(Generic[_T]):
    """Waits for a coroutine in a thread that signals may interrupt, such as the main thread.

    A signal handler may raise between any two steps of Python code. In the `wait` of a `threading.Condition`, on which
    `concurrent.futures` and `threading.Event` stand, that may be where its lock is not held: a RuntimeError then
    replaces the KeyboardInterrupt. The `get` of a `SimpleQueue` is one step.
    """

    def __init__(self, work: Coroutine[Any, Any, _T]) -> None:
        self._work = work
        self._task: asyncio.Task[_T] | None = None
        self._done: SimpleQueue[asyncio.Task[_T]] = SimpleQueue()

    def start(self) -> None:
        """Run the coroutine. To be called on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._finish)

    def stop(self) -> None:
        """Cancel the coroutine, unless it is done. To be called on the event loop."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._work.close()  # it was never started, or is done

    def result(self) -> _T:
        """Wait in another thread for the outcome, and return it or raise it.

        Raises:
            asyncio.CancelledError: the coroutine was cancelled.
        """
        done = self._done.get()
        try:
            return done.result()
        finally:
            del done  # else the traceback of what it raises would keep it

    def _finish(self, task: "asyncio.Task[_T]") -> None:
        self._task = None
        self._done.put(task)


def run_by(post: Callable[[Callable[[], object]], bool], work: Coroutine[Any, Any, _T]) -> _T:
    """The outcome of `work` on an event loop, which is cancelled when the caller is interrupted.

    `post` has something done soon on that loop, and says whether it will be.

    Raises:
        GridClosed: the loop has ended, or ended before the work was done.
    """
    awaited = AwaitedWork(work)
    try:
        if post(awaited.start):
            return awaited.result()
    except asyncio.CancelledError:
        raise GridClosed from None
    except BaseException:
        post(awaited.stop)
        raise
    work.close()
    raise GridClosed
