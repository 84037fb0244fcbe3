"""What this host allows a sandbox to be. Found out by making one."""

import ctypes
import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from htcgrid_agent.errors import BadSettings
from htcgrid_agent.runtimes.sandbox import enter
from htcgrid_agent.runtimes.sandbox.command import Sandbox

_PR_SET_DUMPABLE = 4
_PROBE_SECONDS = 30
_PROBE_FOLDER = Path(enter.__file__).parent
_READABLE = 'for path; do [ -r "$path" ] && { [ ! -d "$path" ] || [ -x "$path" ]; } || { echo "$path"; exit 1; }; done'
_SECRET_FILES = (
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "HTCGRID_SETTINGS_FILE",
)
_SECRET_FOLDERS = (Path("/var/run/secrets"), Path("/run/secrets"))


class SandboxKind(StrEnum):
    """What a worker's sandbox is to be."""

    AUTO = "auto"
    """`namespaces` where the host allows it, else `folder`."""
    NAMESPACES = "namespaces"
    FOLDER = "folder"


@dataclass(frozen=True)
class Isolation:
    """What workers have of their own on this host, and what they have not and why."""

    namespaces: bool
    own_user: bool
    lacks: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """The same in sentences."""
        if self.namespaces:
            files = (
                "Each worker has its own /tmp, /dev/shm and processes, and a function folder that it cannot write to."
            )
        else:
            files = "Each worker has a temporary folder (TMPDIR) of its own, and all that it starts ends with it."
        user = "Each worker runs as a user of its own." if self.own_user else "Workers run as the agent's user."
        return (files, user, *self.lacks)


def isolate(kind: SandboxKind, sandbox: Sandbox, readable: Sequence[Path]) -> tuple[Sandbox, Isolation]:
    """Give the sandbox all that the host allows; `readable` are the files that a user of its own must be able to read.

    Raises:
        BadSettings: namespaces are demanded, and the host does not allow them.
    """
    lacks: list[str] = []
    namespaces = False
    if kind is not SandboxKind.FOLDER:
        refusal = _refusal(replace(sandbox, namespaces=True, own_user=False), ["true"])
        namespaces = refusal is None
        if refusal is not None:
            if kind is SandboxKind.NAMESPACES:
                raise BadSettings(f"HTCGRID_SANDBOX is namespaces, which this host does not allow: {refusal}")
            lacks.append(f"Workers have no namespaces of their own, so they share /tmp and see each other: {refusal}")
    sandbox = replace(sandbox, namespaces=namespaces, own_user=False)
    if os.geteuid() == 0:
        own = replace(sandbox, own_user=True)
        if namespaces:
            own = replace(own, hidden=(*own.hidden, *_closed_around([*own.code, *own.shown, *readable])))
        refusal = _refusal(own, ["sh", "-c", _READABLE, "sh", *map(str, readable)])
        if refusal is None:
            sandbox = own
        else:
            lacks.append(f"Workers have no user of their own, who could not read what they need: {refusal}")
    return sandbox, Isolation(sandbox.namespaces, sandbox.own_user, tuple(lacks))


def describe() -> tuple[str, ...]:
    """What workers on this host would have of their own, and what they would not and why: a sentence each."""
    sandbox = Sandbox(namespaces=True, own_user=False, disk_mb=1)
    _, isolation = isolate(SandboxKind.AUTO, sandbox, [])
    if not isolation.own_user:
        return isolation.lines()
    # Which files a worker needs is known to its agent alone.
    condition = (
        "Workers run as users of their own if these can read the function and its runtime, else as root: the agent's "
        "log says which."
    )
    files, _, *lacks = isolation.lines()
    return (files, condition, *lacks)


def secrets_of(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """The files and folders that hold credentials of an agent with this environment, or say where they are."""
    files = [Path(environment[name]) for name in _SECRET_FILES if environment.get(name)]
    folders = [Path.home() / ".aws", *_SECRET_FOLDERS]
    return tuple(dict.fromkeys(path.resolve() for path in (*files, *folders) if path.exists()))


def guard_agent() -> None:
    """Keep processes of the agent's user, workers among them, from reading its memory and environment in `/proc`."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def _closed_around(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The outermost folders around these paths that not everybody may enter, such as the home of root.

    Where one is covered by an empty folder in which nothing but these paths is shown, a user of its own can reach them.
    """
    found: dict[Path, None] = {}
    for path in paths:
        for folder in reversed(path.parents[:-1]):
            if not folder.stat().st_mode & stat.S_IXOTH:
                found[folder] = None
                break
    return tuple(found)


def _refusal(sandbox: Sandbox, program: Sequence[str]) -> str | None:
    """Why the program does not run well in such a sandbox; none if it does."""
    place = sandbox.place(0, _PROBE_FOLDER, program, os.getpid())
    try:
        done = subprocess.run(
            place.command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
