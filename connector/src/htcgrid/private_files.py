"""Files and folders that only their owner may read, whatever the umask."""

import os
import tempfile
from pathlib import Path

FOLDER = 0o700


def write_private(path: Path, text: str) -> None:
    """Replace the file as a whole, so that a reader sees the old text or the new one.

    Raises:
        OSError: it cannot be written.
    """
    # Made with mode 600 and a name of its own.
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def make_folders(path: Path) -> None:
    """Make a folder and those around it that do not exist yet. One that exists stays as it is.

    Raises:
        OSError: one cannot be made.
    """
    if not path.is_dir():
        make_folders(path.parent)
        path.mkdir(exist_ok=True, mode=FOLDER)
