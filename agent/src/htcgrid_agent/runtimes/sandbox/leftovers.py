"""Temporary folders of workers that were killed together with whoever would have removed them."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from htcgrid_agent.runtimes.sandbox.command import FIRST_USER, MOST_WORKERS, TEMPORARY

_YOUNGEST: Final = 60.0
"""Seconds. `enter.py` makes a folder first and locks it then."""


def remove_leftovers(parent: Path) -> int:
    """Remove such folders from `parent`, and give how many there were.

    Those of workers that run, of this agent or another one, are locked by the process that watches over the worker.
    Folders of other users stay, but for those that root gives to workers.
    """
    return sum(_remove(path) for path in parent.glob(f"{TEMPORARY}*"))


def _remove(path: Path) -> bool:
    with _opened(path) as folder:
        if folder is None:
            return False
        facts = os.fstat(folder)
        # A place on a file system without locks keeps what it has.
        if not _is_ours(facts.st_uid) or time.time() - facts.st_mtime < _YOUNGEST or not _lock(folder):
            return False
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        # Another agent was faster, or another user has closed it.
        yield None
        return
    try:
        yield folder
    finally:
        os.close(folder)


def _is_ours(owner: int) -> bool:
    me = os.geteuid()
    return owner == me or (me == 0 and owner in range(FIRST_USER, FIRST_USER + MOST_WORKERS))


def _lock(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
