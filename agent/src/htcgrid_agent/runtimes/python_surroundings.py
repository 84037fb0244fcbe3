"""What one task of a Python worker finds as the one before found it, whatever that did to the process.

That is the working directory, the environment, the standard streams, signal handlers and timers, the file mode mask and
the default timeout of sockets: as they were when the handler had been loaded. Variables of modules stay as a task
leaves them, as on Lambda, where functions keep there what is to be made once.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from awslambdaric.bootstrap import Unbuffered

_STREAMS = ("stdin", "stdout", "stderr")
"""In the order of their descriptors."""
_OF_PROCESS = ("chdir", "fchdir", "umask", "close", "closerange", "dup2")
"""Functions of `os` after which it is made as it was. To do so after each task would be five calls of the kernel."""
_OF_SIGNALS = ("signal", "siginterrupt", "pthread_sigmask", "alarm", "setitimer", "set_wakeup_fd")


class Surroundings:
    """Noted once, when the handler has been loaded, and put back after each task."""

    def __init__(self) -> None:
        self._touched = False
        for module, names in ((os, _OF_PROCESS), (signal, _OF_SIGNALS)):
            for name in names:
                setattr(module, name, self._noting(getattr(module, name)))

    def note(self) -> None:
        """Remember how things are."""
        self._folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self._streams: list[Any] = [getattr(sys, name) for name in _STREAMS]
        self._descriptors = []
        for descriptor in range(3):
            with contextlib.suppress(OSError):
                self._descriptors.append((os.dup(descriptor), descriptor))
        self._environment = os.environ
        self.note_environment()
        self._timeout = socket.getdefaulttimeout()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._touched = False

    def note_environment(self) -> None:
        """Remember the variables of the environment, which the runtime itself has changed."""
        self._variables = dict(_raw(os.environ))

    def put_back(self, failed: bool) -> None:
        """Make things as they were: after a task that failed, whether it seems to be needed or not."""
        streams = self._streams
        closed = [number for number in range(len(streams)) if getattr(streams[number], "closed", False)]
        if self._touched or failed or closed:
            self._put_process_back()
            self._put_signals_back()
            for number in closed:
                streams[number] = _open_stream(number)
            self._touched = False
        sys.stdin, sys.stdout, sys.stderr = streams
        os.environ = self._environment  # noqa: B003 - the handler may have put another mapping there
        if _raw(os.environ) != self._variables:
            self._put_environment_back()
        if socket.getdefaulttimeout() != self._timeout:
            socket.setdefaulttimeout(self._timeout)

    def _put_environment_back(self) -> None:
        now = dict(_raw(os.environ))
        for name in now.keys() - self._variables.keys():
            del os.environ[os.fsdecode(name)]
        for name, value in self._variables.items():
            if now.get(name) != value:
                os.environ[os.fsdecode(name)] = os.fsdecode(value)
        if now.get(b"TZ") != self._variables.get(b"TZ"):
            time.tzset()

    def _put_process_back(self) -> None:
        os.fchdir(self._folder)
        os.umask(self._umask)
        for kept, descriptor in self._descriptors:
            os.dup2(kept, descriptor)

    def _put_signals_back(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            # None was not set by Python, nor can it be.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(*arguments: Any, **named: Any) -> Any:
            self._touched = True
            return function(*arguments, **named)

        return noted


def _raw(environment: "os._Environ[str]") -> dict[bytes, bytes]:
    # To compare the mapping itself would decode each of its variables after each task.
    return environment._data  # type: ignore[attr-defined,no-any-return]


def _open_stream(descriptor: int) -> IO[str] | Unbuffered:
    if descriptor == 0:
        return open(0, encoding="utf-8", closefd=False)
    return Unbuffered(open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
