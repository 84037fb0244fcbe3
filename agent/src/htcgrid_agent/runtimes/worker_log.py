"""Puts what a worker writes into the agent's log, where it cannot pass for a line of the agent's own."""

import logging
import re
from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_MAX_TASK_BYTES = 256 * 1024
"""Bytes of what a task writes that are logged."""
_MAX_TASK_LINES = 2_000
"""Lines of it. Each costs some 300 bytes of the log and 20 µs of the agent, however short it is."""
_MAX_LINE = 1_000
_BREAKS = re.compile(rb"[\r\n]+")


class WorkerLog:
    """Logs each line as the field `output` of a line of the agent's, with the ids of the tasks that it may be of."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._ids: Mapping[str, object] = {}
        self._line = b""
        """The beginning of a line."""
        self._following = 0
        """Tasks that the worker was given and has not begun, by what it says: it may say no more than that."""
        self._begin_task()

    def tasks_begin(self, ids: Mapping[str, object], tasks: int) -> None:
        """What is written from now on is of so many other tasks."""
        self._end_output()
        self._ids = ids
        self._following = tasks - 1
        self._begin_task()

    def write(self, data: bytes) -> None:
        """Log the lines that end here, and keep the beginning of the next."""
        kept = data[: self._room]
        self._room -= len(kept)
        self._left_out += len(data) - len(kept)
        *lines, self._line = _BREAKS.split(self._line + kept)
        for line in lines:
            self._log(line)

    def end_task(self) -> None:
        """Log what has no end of a line, and how much was left out. Who says that more tasks ended than it was given
        does not get the room of another for it."""
        self._end_output()
        if self._following:
            self._following -= 1
            self._begin_task()

    def _begin_task(self) -> None:
        self._room, self._lines, self._left_out = _MAX_TASK_BYTES, _MAX_TASK_LINES, 0

    def _end_output(self) -> None:
        self._log(self._line)
        self._line = b""
        if self._left_out:
            self._say(b"%d more bytes are left out" % self._left_out)
        self._left_out = 0

    def _log(self, line: bytes) -> None:
        if not line:
            return
        if not self._lines:
            self._left_out += len(line)
            return
        self._lines -= 1
        self._say(line)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace")
        if len(text) > _MAX_LINE:
            text = f"{text[:_MAX_LINE]}… ({len(text)} characters)"
        _LOG.info("a worker wrote", extra={**self._ids, "worker": self._worker, "output": text})
