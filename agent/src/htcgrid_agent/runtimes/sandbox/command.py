"""What a worker's sandbox is made of, and the command that runs a program in it."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from htcgrid_agent.runtimes.sandbox import enter

FIRST_USER = 60_600
"""The user and group of worker 0, where workers have users of their own; systemd leaves those up to 61,183 unused."""
MOST_WORKERS = 256
"""Of an agent."""
TEMPORARY = "htcgrid-worker-"
"""How the names of temporary folders begin, each of which `enter.py` makes, locks and removes."""


@dataclass(frozen=True)
class Place:
    """How one program is started in a sandbox."""

    command: Sequence[str]
    temporary: str
    """The folder of its own, as the program sees it."""


@dataclass(frozen=True)
class Sandbox:
    """The same for all workers of an agent."""

    namespaces: bool
    """Whether it has process and mount namespaces of its own; if not, it has a temporary folder and a sub-reaper."""
    own_user: bool
    disk_mb: int
    """Most MB in the folders that are its own."""
    memory_mb: int | None = None
    """Most MB that the program may write to."""
    processes: int = 0
    """Most processes and threads, where the kernel counts those of the program alone; 0 for no bound."""
    code: Sequence[Path] = ()
    """Folders that it sees wherever they lie, and cannot write to."""
    shown: Sequence[Path] = ()
    """Folders that it sees and may write to, and programs, that lie in `/tmp` or another folder of its own, or in
    `code`."""
    hidden: Sequence[Path] = ()
    """Files and folders that it must not see."""

    def user(self, number: int) -> int | None:
        """The user and group of worker `number`, if it has one of its own."""
        return FIRST_USER + number if self.own_user else None

    def place(self, number: int, folder: Path, program: Sequence[str], parent: int) -> Place:
        """How `program` is started in `folder` for worker `number`, as a child of the process `parent`."""
        temporary = ""
        if not self.namespaces:
            temporary = f"{tempfile.gettempdir()}/{TEMPORARY}{secrets.token_hex(8)}"
        user = self.user(number)
        options = [
            f"parent={parent}",
            f"namespaces={int(self.namespaces)}",
            f"memory={(self.memory_mb or 0) * 1024 * 1024}",
            f"disk={self.disk_mb * 1024 * 1024}",
            f"processes={self.processes}",
            f"user={-1 if user is None else user}",
            f"folder={folder}",
            f"temporary={temporary}",
            *(f"code={path}" for path in self.code),
            *(f"show={path}" for path in self.shown),
            *(f"hide={path}" for path in self.hidden),
        ]
        file = shutil.which(program[0]) or program[0]
        command = [sys.executable, "-I", "-S", enter.__file__, *options, "--", file, *program[1:]]
        return Place(command, temporary or enter.PRIVATE[0])
