"""Drawing the tasks of a map ahead of the reader of its results, in a thread of its own."""

import threading
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from htcgrid._core.intake import Intake
from htcgrid._core.source_thread import start_reading
from htcgrid._submit.encoding import check_chunk_size
from htcgrid._submit.json_line import json_line
from htcgrid._submit.tables import tasks_of
from htcgrid._submit.window import CHUNKS_IN_WINDOW, REFILL, check_buffersize
from htcgrid.options import JSON

if TYPE_CHECKING:
    from htcgrid._core.client_loop import ClientLoop
    from htcgrid._core.session_link import SessionLink
    from htcgrid._follow.reading import Reading
    from htcgrid._submit.feed import Feed
    from htcgrid.results import Part


class Lookahead:
    """Draws tasks so that never more than `size` of them are drawn and their results not taken."""

    def __init__(self, tasks: Iterable[JSON], size: int, chunk_size: int | None) -> None:
        check_buffersize(size)
        check_chunk_size(chunk_size)
        self._tasks = tasks_of(tasks)
        self._size = size
        self._chunk_size = chunk_size
        self._open_tasks = 0
        self._changed = threading.Condition()
        self._stopped = False

    def start(self, loop: "ClientLoop", feed: "Feed") -> None:
        """Begin to draw tasks and to send them."""
        self._loop = loop
        self._intake = Intake(loop, feed)
        self._feed = feed
        start_reading(self._draw, "htcgrid map")

    def took(self) -> None:
        """The reader has taken one more result."""
        with self._changed:
            self._open_tasks -= 1
            self._changed.notify()

    def stop(self) -> None:
        """Draw no further task."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    async def abandon(self, error: BaseException, link: "SessionLink") -> None:
        """Leave the session for this reason, after `stop`."""
        await self._intake.abandon(error, link.abandon)

    async def next(self, reading: "Reading") -> "list[Part]":
        """The next results, as soon as there are some; none at the end. Raises what the source raises, and
        `GridClosed` when the grid is closed meanwhile."""
        return await self._intake.unless_failed(self._parts(reading))

    async def _parts(self, reading: "Reading") -> "list[Part]":
        await self._intake.started.wait()
        return await reading.next() if self._feed.created else []

    def _draw(self) -> None:
        try:
            self._intake.begin(iter(self._tasks), self._chunk_size, max(1, self._size // CHUNKS_IN_WINDOW))
            source = enumerate(self._tasks)
            while self._has_room() and (drawn := next(source, None)) is not None:
                self._intake.put(json_line(*drawn))
            self._finish()
        except BaseException as error:  # noqa: BLE001 - raised where the results are read
            self._loop.post(partial(self._intake.fail, error))
        finally:
            self._loop.post(self._intake.started.set)

    def _has_room(self) -> bool:
        """Wait until one more task may be drawn. False if none is wanted any more."""
        with self._changed:
            full = self._open_tasks >= self._size
        if full:
            self._intake.push(last=False)
            with self._changed:
                least = max(1, self._size // REFILL)
                self._changed.wait_for(lambda: self._stopped or self._size - self._open_tasks >= least)
        with self._changed:
            self._open_tasks += 1
            return not self._stopped

    def _finish(self) -> None:
        if not self._stopped:
            self._intake.push(last=True)
            if self._feed.encoder.tasks:
                self._intake.close()
