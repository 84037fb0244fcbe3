"""A worker's process: started so that it cannot outlive the agent, and ended with all that it started."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 20
_TAIL_LINE = 500
_CLOSING_SECONDS = 0.5


class WorkerProcess:
    """A process, and the last lines that it wrote to its stderr."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._copying = asyncio.create_task(self._copy_stderr())

    @classmethod
    async def start(cls, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> "WorkerProcess":
        """Start `command` in `folder`, as the leader of a group of its own.

        Raises:
            OSError: it cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=None,
            stderr=PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()),
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines of its stderr, each cut to a sensible length."""
        return tuple(self._tail)

    async def ended(self) -> int:
        """Wait for its end; gives the exit code, or minus the signal that ended it."""
        code = await self._process.wait()
        # Children that the handler left behind go with it; one that fled the group may still hold the pipe open.
        self.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._copying), _CLOSING_SECONDS)
        self._copying.cancel()
        return code

    def kill(self) -> None:
        """Kill it and everything in its group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _copy_stderr(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        unfinished = b""
        while data := await stream.read(64 * 1024):
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
            *lines, unfinished = (unfinished + data).split(b"\n")
            self._keep(lines[-_TAIL_LINES:])
            unfinished = unfinished[:_TAIL_LINE]
        if unfinished:
            self._keep([unfinished])

    def _keep(self, lines: Sequence[bytes]) -> None:
        self._tail.extend(line[:_TAIL_LINE].decode(errors="replace") for line in lines)


def _die_with(parent: int) -> None:
    # Runs between fork and exec. The signal comes when the thread that forked ends, which is the agent's main thread.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
