"""The control group of a run, below which kubelet keeps those of its pods."""

import contextlib
import time
from pathlib import Path

_TREE = Path("/sys/fs/cgroup")
_GONE_WITHIN = 60.0


class ControlGroup:
    """A group of one name in every hierarchy: one of version 2, or one per controller of version 1."""

    def __init__(self, name: str) -> None:
        self.name = name
        unified = (_TREE / "cgroup.controllers").exists()
        hierarchies = [_TREE] if unified else [path for path in _TREE.iterdir() if (path / "cgroup.procs").exists()]
        self._folders = [path / name for path in hierarchies]

    def make(self) -> None:
        """Make it."""
        for folder in self._folders:
            folder.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Remove it with all groups below it, once their last processes, which must have been killed, are gone."""
        deadline = time.monotonic() + _GONE_WITHIN
        left = self._folders
        while (left := [folder for folder in left if not _remove(folder)]) and time.monotonic() < deadline:
            time.sleep(0.1)


def _remove(folder: Path) -> bool:
    for below in sorted((path for path in folder.glob("**/") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            below.rmdir()
    return not folder.exists()
