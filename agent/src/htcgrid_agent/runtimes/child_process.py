"""Workers as processes of the agent: each cannot outlive it, and is ended with all that it started."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Sequence
from functools import partial

from htcgrid_agent.runtimes.function import Function
from htcgrid_agent.runtimes.launcher import Exit
from htcgrid_agent.runtimes.permits import Permits

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 20
_TAIL_LINE = 500
_CLOSING_SECONDS = 0.5


class Spawner:
    """Launches runtimes of a function as children of the agent."""

    own = True

    def __init__(self, function: Function, memory_mb: int | None) -> None:
        self._function = function
        self._memory = memory_mb * 1024 * 1024 if memory_mb else None
        # Says at once what is wrong.
        function.command()

    def port(self, number: int) -> int:
        """See `Launcher`."""
        return 0

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> "WorkerProcess":
        """See `Launcher`. The process leads a group of its own."""
        process = await asyncio.create_subprocess_exec(
            *self._function.command(permits.descriptor),
            stdin=DEVNULL,
            stdout=None,
            stderr=PIPE,
            cwd=self._function.path,
            env=self._function.variables(runtime_api, f"worker-{number}"),
            start_new_session=True,
            pass_fds=(permits.descriptor,) if self._function.takes_batches else (),
            preexec_fn=partial(_prepare, os.getpid(), self._memory),
        )
        return WorkerProcess(process)


class WorkerProcess:
    """A process, and the last lines that it wrote to its stderr."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._copying = asyncio.create_task(self._copy_stderr())

    async def ended(self) -> Exit:
        """See `Running`."""
        code = await self._process.wait()
        # Children that the handler left behind go with it; one that fled the group may still hold the pipe open.
        self.kill()
        # Not wait_for, which before Python 3.12 swallows a cancellation that comes just when the copying ends: whoever
        # stopped the worker then waited for ever.
        done, _ = await asyncio.wait({self._copying}, timeout=_CLOSING_SECONDS)
        for copying in done:
            copying.result()
        self._copying.cancel()
        return Exit(code, tuple(self._tail))

    def met(self) -> None:
        """See `Running`."""

    def lost_touch(self) -> None:
        """See `Running`. Nothing to do: the end of a child is noticed as it is."""

    def kill(self) -> None:
        """See `Running`."""
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


def _prepare(parent: int, memory: int | None) -> None:
    # Runs between fork and exec. The signal comes when the thread that forked ends, which is the agent's main thread.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if memory:
        # What a process may write to; unlike its address space, which runtimes reserve without using it.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # If the host runs out of memory, a worker is to die and not the agent.
    adjustment = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(adjustment, b"1000")
    os.close(adjustment)
