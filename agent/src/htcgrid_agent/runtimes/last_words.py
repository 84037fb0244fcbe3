"""What a worker writes to its stdout and stderr: logged, and kept for the error of the task that wrote it."""

import asyncio
import os
import re
from collections.abc import Mapping

from htcgrid_agent.runtimes.python_runtime import NEXT_TASK
from htcgrid_agent.runtimes.worker_log import WorkerLog

_MAX_READ = 64 * 1024
_READ_EVERY = 0.05
"""Seconds between reads, so that a worker that marks each of its short tasks does not wake the agent for each."""
_KEPT = 16 * 1024
_MAX_LINES = 20
_MAX_LINE = 500
_BREAKS = re.compile(rb"[\r\n]+")


class LastWords:
    """Reads a pipe until all who write to it have ended. To be used in the event loop."""

    def __init__(self, log: WorkerLog) -> None:
        self._log = log
        self._pipe, self.descriptor = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        self._unread = b""
        """The beginning of what may become a mark."""
        self._kept = b""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    def start(self) -> None:
        """Read from now on. The worker has inherited the other end by now, and the agent gives it up."""
        os.close(self.descriptor)
        self._listen()

    def tasks_begin(self, ids: Mapping[str, object], tasks: int) -> None:
        """Forget what was written so far: it belongs to earlier tasks."""
        self._drain()
        self._log.tasks_begin(ids, tasks)
        self._kept = self._unread = b""

    async def end(self, within: float) -> list[str]:
        """The last lines, when the pipe is closed or, where somebody holds it open, after so many seconds."""
        self._drain()
        closing = asyncio.create_task(self._closed.wait())
        # Not wait_for, which before Python 3.12 swallows a cancellation that comes just when the waiting ends: whoever
        # stopped the worker then waited for ever.
        try:
            await asyncio.wait({closing}, timeout=within)
        finally:
            closing.cancel()
            self.close()
        return last_lines(self._kept)

    def close(self) -> None:
        """Log what was written so far, and read no more."""
        self._drain()
        self._close()

    def _listen(self) -> None:
        if not self._closed.is_set():
            self._loop.add_reader(self._pipe, self._read_and_pause)

    def _read_and_pause(self) -> None:
        size = self._read()
        # A worker that writes as much as the pipe takes is not held up.
        if size < _MAX_READ and not self._closed.is_set():
            self._loop.remove_reader(self._pipe)
            self._timer = self._loop.call_later(_READ_EVERY, self._listen)

    def _drain(self) -> None:
        # A pipe holds no more than one read takes: the first has all that was written so far, the second sees the end.
        # Not more, for the sake of a worker that never stops writing.
        for _ in range(2):
            if not self._closed.is_set():
                self._read()

    def _read(self) -> int:
        try:
            data = os.read(self._pipe, _MAX_READ)
        except BlockingIOError:
            return 0
        if not data:
            self._close()
            return 0
        self._take(data)
        return len(data)

    def _take(self, data: bytes) -> None:
        *earlier, text = (self._unread + data).split(NEXT_TASK)
        for words in earlier:
            self._log.write(words)
            self._log.end_task()
            self._kept = b""
        # A mark may have been cut in two.
        cut = next((size for size in range(len(NEXT_TASK) - 1, 0, -1) if text.endswith(NEXT_TASK[:size])), 0)
        text, self._unread = text[: len(text) - cut], text[len(text) - cut :]
        self._log.write(text)
        self._kept = (self._kept + text)[-_KEPT:]

    def _close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if not self._closed.is_set():
            self._closed.set()
            self._log.end_task()
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)


def last_lines(text: bytes) -> list[str]:
    """The last lines of a text. A progress bar, which goes back to the start of its line, makes a new one each time."""
    lines = [line for line in _BREAKS.split(text) if line.strip()]
    return [_shortened(line.decode(errors="replace")) for line in lines[-_MAX_LINES:]]


def _shortened(line: str) -> str:
    half = _MAX_LINE // 2
    return line if len(line) <= _MAX_LINE else f"{line[:half]}…{line[-half + 1 :]}"
