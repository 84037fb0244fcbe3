"""Folders as one stored object: a tar that is the same whoever makes it of the same files, and whenever.

It holds files and folders alone, in the order of their names, without owners and times. Of the modes it keeps whether a
file can be executed. `archive` unpacks it.
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from htcgrid_dataplane.archive import MAX_ENTRIES


class NotPackable(ValueError):
    """Raised when a folder holds what cannot be packed; names it."""


def pack_folder(folder: Path, file: IO[bytes]) -> None:
    """Write a folder's content as a tar.

    Raises:
        NotPackable: it holds a link, a socket or the like, a name that is no text, or more than `MAX_ENTRIES`.
        OSError: a file cannot be read.
    """
    # The format of POSIX (pax) takes names and sizes of any length, and needs no extension for plain ones.
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, path in enumerate(_below(folder)):
            if number == MAX_ENTRIES:
                raise NotPackable(f"{folder} holds more than {MAX_ENTRIES:,} files and folders")
            _add(tar, path, path.relative_to(folder).as_posix())


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted((*folders, *files)):
            yield Path(root, name)


def _raise(error: OSError) -> None:
    raise error


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise NotPackable(f"{path!r} has a name that is no text in UTF-8: rename it") from error
    status = path.lstat()
    member = tarfile.TarInfo(name)
    if stat.S_ISDIR(status.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        member.size = status.st_size
        member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        with path.open("rb") as content:
            tar.addfile(member, content)
    else:
        raise NotPackable(f"{path} is neither a file nor a folder: leave it out, or put what it leads to in its place")
