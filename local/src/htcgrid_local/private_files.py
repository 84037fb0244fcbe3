"""Files and folders that only their owner may read, whatever the umask."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Final

FOLDER: Final = 0o700
FILE: Final = 0o600
PRIVATE_UMASK: Final = 0o077


def write_private(path: Path, text: str) -> None:
    """Replace the file as a whole, so that a reader sees the old text or the new one."""
    # Made with mode 600 and a name of its own.
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


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
