"""Runs a command where a cluster may be started: `python -m tests.kubernetes COMMAND…`.

The command gets namespaces of its own for network, mounts and processes. So ports are free, pods have a bridge, and
when the command ends, however it ends, the kernel ends every process and mount that is left.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

from tests.kubernetes.control_group import ControlGroup
from tests.kubernetes.places import INSIDE, LOGS, ROOT, STATE
from tests.kubernetes.tools import missing

_UNSHARE = (
    # Each dies with its parent, so that whoever is killed leaves nothing behind.
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip


def main(command: Sequence[str]) -> int:
    """Run `command` and return its exit code."""
    if lacking := missing():
        sys.stderr.write(f"No cluster can be started, because it needs {', '.join(lacking)}.\n")
        return 1
    STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"A cluster of {ROOT} already runs: wait for its end.\n")
            return 1
        _clear()
        shutil.rmtree(LOGS, ignore_errors=True)
        LOGS.mkdir()
        group = ControlGroup(f"htcgrid-kubernetes-{os.getpid()}")
        group.make()
        try:
            return _run(command, group)
        finally:
            group.remove()
            _clear()


def _run(command: Sequence[str], group: ControlGroup) -> int:
    # Ctrl-C reaches the command by itself, and this process waits for it. A handler, unlike "ignore", is not inherited.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    inner = [sys.executable, "-m", "tests.kubernetes.inner", *command]
    with subprocess.Popen([*_UNSHARE, *inner], cwd=ROOT, env=os.environ | {INSIDE: group.name}) as process:
        try:
            return process.wait()
        finally:
            process.kill()


def _clear() -> None:
    """Remove what a cluster kept in its folder, but for the logs."""
    for path in STATE.iterdir():
        if path.is_dir() and path != LOGS:
            shutil.rmtree(path)
        elif path.is_file() and path.name != "lock":
            path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
