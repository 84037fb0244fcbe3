"""Files and folders of a local grid that only their owner may read, whatever the umask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Final

from htcgrid.private_files import FOLDER

FILE: Final = 0o600
PRIVATE_UMASK: Final = 0o077


def append_private(path: Path) -> IO[bytes]:
    """Open a file for writing at its end."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE)
    os.fchmod(handle, FILE)
    return os.fdopen(handle, "ab")


def make_private_folder(path: Path) -> None:
    """Make a folder, or take an existing one of the same owner from all others.

    Raises:
        OSError: it cannot be made, or is somebody else's.
    """
    path.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    path.chmod(FOLDER)
