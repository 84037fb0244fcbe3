"""What belongs to the process that made it: after a fork, the child has no thread that would do the work."""

import os
from concurrent.futures import Future
from typing import Any

from htcgrid.errors import GridClosed


class OwnProcess:
    """The process in which this was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def current(self) -> bool:
        """Whether the caller runs in it, and not in a process that was forked from it."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Raises `GridClosed` in a forked process, before the caller waits for what nobody would do."""
        if not self.current:
            raise GridClosed("the grid was connected before this process was forked: connect anew in this process")


class OwnFuture(Future[Any]):
    """A future that is settled in the process that made it. In a forked one, waiting for it raises `GridClosed`."""

    def __init__(self) -> None:
        super().__init__()
        self._process = OwnProcess()

    def result(self, timeout: float | None = None) -> Any:
        """See `concurrent.futures.Future.result`."""
        self._check()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See `concurrent.futures.Future.exception`."""
        self._check()
        return super().exception(timeout)

    def _check(self) -> None:
        if self._state != "FINISHED":  # without its lock, which another thread may have held at the fork
            self._process.check()
