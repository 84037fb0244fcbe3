"""The grid's processes: each leads a group of its own, and none outlives the supervisor.

A group holds a process and everything that it started: the embedded AWS with its functions, an agent with its workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil

from htcgrid_local import guard
from htcgrid_local.private_files import append_private
from htcgrid_local.state import ProcessId


@dataclass(frozen=True)
class Child:
    """A running process of the grid."""

    identity: ProcessId
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """What the process is called in logs and in `status`."""
        return self.identity.name

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), or none while it runs."""
        return self.process.poll()


class Processes:
    """Starts processes and ends them by group.

    `changed` is called with the living children whenever there is one more or one less.
    """

    def __init__(self, changed: Callable[[Sequence[ProcessId]], None]) -> None:
        self._changed = changed
        self._children: dict[int, Child] = {}
        self._lock = threading.RLock()
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, start_new_session=True
        )

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        sockets: Sequence[int] = (),
        umask: int = -1,
    ) -> Child:
        """Start `command`, which writes to the end of `log` and inherits the file descriptors in `sockets`.

        Its umask is this process's unless one is given.

        Raises:
            OSError: the command cannot be started.
        """
        with self._lock, append_private(log) as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
                pass_fds=sockets,
                umask=umask,
            )
            self._tell_guard(f"+{process.pid}")
            child = Child(ProcessId.of(name, process.pid), process)
            self._children[process.pid] = child
            self._report()
            return child

    def ask_to_end(self, child: Child) -> None:
        """Send SIGTERM to the process itself, which then ends its own children."""
        if child.exit_code is None:
            child.process.send_signal(signal.SIGTERM)

    def end(self, child: Child, grace: timedelta = timedelta(0)) -> int:
        """Wait up to `grace` for the process to end, then kill what is left of its group. Returns its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(grace.total_seconds())
        kill_group(child.identity.pid)
        code = child.process.wait()
        with self._lock:
            if self._children.pop(child.identity.pid, None):
                self._tell_guard(f"-{child.identity.pid}")
                self._report()
        return code

    def close(self) -> None:
        """End every process, and the guard."""
        for child in list(self._children.values()):
            self.end(child)
        with contextlib.suppress(BrokenPipeError):
            if self._guard.stdin is not None:
                self._guard.stdin.close()
        self._guard.wait()

    def _report(self) -> None:
        self._changed([child.identity for child in self._children.values()])

    def _tell_guard(self, line: str) -> None:
        # A guard that somebody killed guards nothing, and the grid still ends its processes by itself.
        with contextlib.suppress(BrokenPipeError):
            if self._guard.stdin is not None:
                self._guard.stdin.write(f"{line}\n".encode())
                self._guard.stdin.flush()


def kill_group(group: int) -> None:
    """Kill every process of a group; none left is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def kill_leftovers(children: Iterable[ProcessId]) -> list[str]:
    """Kill the groups that a dead supervisor left behind, and return their names.

    A group whose leader's number belongs to a younger process now is somebody else's and stays untouched.
    """
    killed = []
    for child in children:
        if not child.replaced and _group_has_members(child.pid):
            kill_group(child.pid)
            killed.append(child.name)
    return killed


def _group_has_members(group: int) -> bool:
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == group:
                return True
    return False
