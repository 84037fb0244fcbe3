"""Workers as processes of the agent: each in a sandbox, ends with it, and cannot outlive the agent."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from htcgrid_agent.runtimes.function import Function
from htcgrid_agent.runtimes.last_words import LastWords
from htcgrid_agent.runtimes.launcher import Exit
from htcgrid_agent.runtimes.peer import Peer, check_host, is_in_tree
from htcgrid_agent.runtimes.permits import Permits
from htcgrid_agent.runtimes.sandbox import Sandbox
from htcgrid_agent.runtimes.worker_log import WorkerLog

_CLOSING_SECONDS = 0.5
_ORPHAN_SECONDS = 1.0


class Spawner:
    """Launches runtimes of a function as children of the agent."""

    own = True

    def __init__(self, function: Function, sandbox: Sandbox, function_digest: str = "") -> None:
        self._function = function
        self.function_digest = function_digest
        self._sandbox = sandbox
        self._known: set[int] = set()
        self.answers_text = not function.kind.is_python
        # These say at once what is wrong.
        function.command()
        check_host()

    def port(self, number: int) -> int:
        """See `Launcher`."""
        return 0

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> "WorkerProcess":
        """See `Launcher`. The process leads a group of its own."""
        self._reap_orphans()
        program = self._function.command(permits.descriptor)
        place = self._sandbox.place(number, self._function.path, program, os.getpid())
        words = LastWords(WorkerLog(number))
        try:
            process = await asyncio.create_subprocess_exec(
                *place.command,
                stdin=DEVNULL,
                stdout=words.descriptor,
                stderr=words.descriptor,
                cwd=self._function.path,
                env=self._function.variables(runtime_api, f"worker-{number}", place.temporary),
                start_new_session=True,
                pass_fds=(permits.descriptor,) if self._function.takes_batches else (),
            )
        finally:
            words.start()
        self._known.add(process.pid)
        return WorkerProcess(process, words, self._has_ended, self._sandbox.user(number))

    def _has_ended(self, process: int) -> None:
        self._known.discard(process)
        # If somebody killed it, what is left of its sandbox ends a moment later.
        asyncio.get_running_loop().call_later(_ORPHAN_SECONDS, self._reap_orphans)

    def _reap_orphans(self) -> None:
        """Reap what an agent inherits that is the first process of its container: sandboxes that somebody killed."""
        for child in set(_children()) - self._known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


class WorkerProcess:
    """A process that watches over a sandbox, and the last words of what runs in it."""

    def __init__(
        self, process: Process, words: LastWords, has_ended: Callable[[int], None], own_user: int | None = None
    ) -> None:
        self._process = process
        self._own_user = own_user
        self._words = words
        self._has_ended = has_ended

    async def ended(self) -> Exit:
        """See `Running`."""
        try:
            code = await self._process.wait()
        except asyncio.CancelledError:
            # The agent ends, and with it whoever could copy the rest to its log.
            self._words.close()
            raise
        self._has_ended(self._process.pid)
        # One that fled the sandbox may still hold the pipe open.
        return Exit(code, tuple(await self._words.end(_CLOSING_SECONDS)))

    def met(self) -> None:
        """See `Running`."""

    def owns(self, peer: Peer | None) -> bool:
        """See `Running`."""
        if peer is None or self._process.returncode is not None:
            return False
        return is_in_tree(self._process.pid, peer, self._own_user)

    def lost_touch(self) -> None:
        """See `Running`. Nothing to do: the end of a child is noticed as it is."""

    def tasks_begin(self, ids: Mapping[str, object], tasks: int) -> None:
        """See `Running`."""
        self._words.tasks_begin(ids, tasks)

    def kill(self) -> None:
        """See `Running`. The process ends the sandbox, and then itself."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)


def _children() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())
