"""Unpacks the zip archive of a function, all of it or nothing, into a folder that nothing of it can leave."""

import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from htcgrid_agent.errors import FunctionNotFetched

MEBIBYTE: Final = 1024 * 1024
MAX_UNPACKED_BYTES: Final = 2048 * MEBIBYTE
"""Eight times what Lambda takes."""
MAX_FILES: Final = 100_000
_MAX_LINK: Final = 4_096
"""Bytes: Linux follows no longer one."""
_ENCRYPTED: Final = 0x1
_EXECUTABLE: Final = 0o111
_FOLDER_MODE: Final = 0o555
_BLOCK: Final = 65_536
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
"""What the standard library raises for an archive that is damaged, or of a kind that it cannot read."""


def unpack(archive: IO[bytes], folder: Path) -> int:
    """Replace what is in a folder by the files of an archive, for all to read and for nobody to write; gives how many.

    Where this fails the folder is empty.

    Raises:
        FunctionNotFetched: it is no archive, would leave the folder, or is too large.
        OSError: the folder cannot be written.
    """
    _empty(folder)
    try:
        with zipfile.ZipFile(archive) as opened:
            return _unpack(opened, folder)
    except BaseException as error:
        _empty(folder)
        # An error of the system has a number; those of bz2 are of the same class and have none.
        if isinstance(error, _DAMAGED) or (isinstance(error, OSError) and error.errno is None):
            raise FunctionNotFetched(f"The function is no zip archive that can be unpacked: {error}.") from error
        raise


def _unpack(archive: zipfile.ZipFile, folder: Path) -> int:
    entries = list(_checked(archive.infolist()))
    links: list[tuple[Path, str]] = []
    left = MAX_UNPACKED_BYTES
    for entry, name in entries:
        place = folder / name
        if entry.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if _is_link(entry):
            links.append((place, _target(archive, entry)))
            continue
        left = _write(archive, entry, place, left)
    # Only now, so that nothing is written through one.
    for place, target in links:
        place.symlink_to(target)
    root = folder.resolve()
    for place, target in links:
        if not _resolved(place).is_relative_to(root):
            raise FunctionNotFetched(f"The archive's link {place.relative_to(folder)} leads out of it, to {target!r}.")
    for path, _, _ in os.walk(folder, topdown=False):
        if Path(path) != folder:
            Path(path).chmod(_FOLDER_MODE)
    return sum(not entry.is_dir() for entry, _ in entries)


def _checked(entries: list[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The entries with their names, each of which is one and stays in the folder."""
    if len(entries) > MAX_FILES:
        raise FunctionNotFetched(f"The archive has {len(entries)} files; {MAX_FILES} are the most that are unpacked.")
    seen: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or not name.parts:
            raise FunctionNotFetched(f"The archive's entry {entry.filename!r} would be outside of the folder.")
        if entry.flag_bits & _ENCRYPTED:
            raise FunctionNotFetched(f"The archive's entry {entry.filename!r} is encrypted.")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise FunctionNotFetched(
                f"The archive's entry {entry.filename!r} is neither a file nor a folder nor a link."
            )
        if entry.is_dir():
            folders.add(name)
        elif name in seen:
            raise FunctionNotFetched(f"The archive has two entries {entry.filename!r}.")
        else:
            seen.add(name)
        yield entry, name
    if not seen:
        raise FunctionNotFetched("The archive has no files.")
    for name in seen | folders:
        if not seen.isdisjoint([name, *name.parents] if name in folders else name.parents):
            raise FunctionNotFetched(f"The archive's entry {str(name)!r} lies in another one that is no folder.")


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, left: int) -> int:
    """Write a file; gives how many bytes may still follow. What the archive says of sizes is not believed."""
    with archive.open(entry) as content, place.open("xb") as file:
        while block := content.read(_BLOCK):
            left -= len(block)
            if left < 0:
                limit = MAX_UNPACKED_BYTES // MEBIBYTE
                raise FunctionNotFetched(f"The archive holds more than {limit} MiB, the most that is unpacked.")
            file.write(block)
    place.chmod(0o555 if (entry.external_attr >> 16) & _EXECUTABLE else 0o444)
    return left


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _target(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    with archive.open(entry) as content:
        target = content.read(_MAX_LINK + 1)
    if not target or len(target) > _MAX_LINK or b"\0" in target:
        raise FunctionNotFetched(f"The archive's link {entry.filename!r} leads to what is no path.")
    return os.fsdecode(target)


def _resolved(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError) as error:
        raise FunctionNotFetched(f"The archive's link {link.name!r} leads to itself.") from error


def _empty(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        if Path(path) != folder:
            Path(path).chmod(0o755)
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
