"""Finished tasks handed to those who wait for each: futures and callbacks."""

import asyncio
import logging
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from htcgrid.errors import GridClosed, GridError

if TYPE_CHECKING:
    from htcgrid._follow.reading import Reading
    from htcgrid.results import FinishedTask, Part

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Whoever is told of each finished task."""

    def settle(self, task: "FinishedTask") -> None:
        """A task has its outcome."""

    def fail(self, error: GridError) -> None:
        """No more outcomes can be had."""


Hand = Callable[[Callable[[], None]], Awaitable[None]]
"""Has something done where the user's own code may run, and waits for it."""


async def deliver(reading: "Reading", sink: Sink, hand: Hand) -> None:
    """Tell a sink of each task of a session, until the last one."""
    try:
        while parts := await reading.next():
            await hand(lambda parts=parts: _settle(sink, parts))  # type: ignore[misc]  # bound now, called once
    except GridError as error:
        sink.fail(error)
    finally:
        reading.stop()


async def hand_over(call: Callable[[], None]) -> None:
    """Do it here and now, between two steps of the event loop."""
    call()
    await asyncio.sleep(0)


def _settle(sink: Sink, parts: "Sequence[Part]") -> None:
    for part in parts:
        for task in part:
            sink.settle(task)


class DeliveryThread:
    """A thread in which futures are settled and callbacks called, so that they may take their time and use the grid."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    async def hand(self, call: Callable[[], None]) -> None:
        """See `Hand`."""
        self._start()
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def run() -> None:
            try:
                call()
            finally:
                loop.call_soon_threadsafe(_set, done)

        self._calls.put(run)
        await done

    def close(self) -> None:
        """End the thread once it has done what it was given. Does not wait, since the caller may be that thread."""
        self._calls.put(None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon, so that a callback which never returns does not keep the program from ending.
                self._thread = threading.Thread(target=self._run, name="htcgrid results", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except RuntimeError:  # of a loop that was closed meanwhile
                _log.debug("results were delivered after their grid was closed", exc_info=True)


def _set(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


class Callback:
    """Calls a user's function with each finished task."""

    def __init__(self, session_id: str, function: "Callable[[FinishedTask], object]") -> None:
        self._session_id = session_id
        self._function = function

    def settle(self, task: "FinishedTask") -> None:
        """See `Sink.settle`. What the function raises is logged, as `concurrent.futures` does, and stops nothing."""
        try:
            self._function(task)
        except Exception:  # noqa: BLE001 - it is the user's, whatever it is
            _log.exception("the callback for task %d of session %s raised", task.index, self._session_id)

    def fail(self, error: GridError) -> None:
        """See `Sink.fail`."""
        if not isinstance(error, GridClosed):
            _log.error("no more results of session %s can be delivered: %s", self._session_id, error)


class Futures:
    """Settles one future per task, of `asyncio` or `concurrent.futures`: both are settled alike."""

    def __init__(self, futures: "dict[int, Any]") -> None:
        self._futures = futures

    def settle(self, task: "FinishedTask") -> None:
        """See `Sink.settle`."""
        future = self._futures.pop(task.index, None)
        if future is None or future.done():
            return
        if task.error is None:
            future.set_result(task.result)
        else:
            future.set_exception(task.error)

    def fail(self, error: GridError) -> None:
        """See `Sink.fail`."""
        while self._futures:
            _, future = self._futures.popitem()
            if not future.done():
                future.set_exception(error)
