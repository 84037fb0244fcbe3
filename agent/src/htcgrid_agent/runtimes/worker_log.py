"""Puts what a worker writes into the agent's log, where it cannot pass for a line of the agent's own."""

import logging
import re
from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_MAX_TASK_BYTES = 256 * 1024
"""Bytes of what a task writes that are logged."""
_MAX_LINE = 1_000
_BREAKS = re.compile(rb"[\r\n]+")


class WorkerLog:
    """Logs each line as the field `output` of a line of the agent's, with the ids of the tasks that it may be of."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._ids: Mapping[str, object] = {}
        self._line = b""
        """The beginning of a line."""
        self._room = _MAX_TASK_BYTES
        self._left_out = 0

    def tasks_begin(self, ids: Mapping[str, object]) -> None:
        """What is written from now on is of other tasks."""
        self.end_task()
        self._ids = ids

    def write(self, data: bytes) -> None:
        """Log the lines that end here, and keep the beginning of the next."""
        kept = data[: self._room]
        self._room -= len(kept)
        self._left_out += len(data) - len(kept)
        *lines, self._line = _BREAKS.split(self._line + kept)
        for line in lines:
            self._log(line)

    def end_task(self) -> None:
        """Log what has no end of a line, and how much was left out."""
        self._log(self._line)
        if self._left_out:
            self._log(b"%d more bytes are left out" % self._left_out)
        self._line, self._room, self._left_out = b"", _MAX_TASK_BYTES, 0

    def _log(self, line: bytes) -> None:
        if line:
            text = line.decode(errors="backslashreplace")
            if len(text) > _MAX_LINE:
                text = f"{text[:_MAX_LINE]}… ({len(text)} characters)"
            _LOG.info("a worker wrote", extra={**self._ids, "worker": self._worker, "output": text})
