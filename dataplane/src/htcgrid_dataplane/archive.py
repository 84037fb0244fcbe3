"""Unpacks a folder of shared data from the tar archive as which it is stored, while that is being fetched.

A tenant made the archive: nothing of it is believed. Nothing is written outside of the folder or through a link, and
what is neither file, folder nor link is refused.
"""

import errno
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from htcgrid_dataplane.errors import PayloadCorrupt

MAX_ENTRIES: Final = 100_000
"""Most files, folders and links in a folder: each takes an inode of a host's disk."""
_MAX_DEPTH: Final = 100
_BLOCK: Final = 256 * 1024
_OF_NAMES: Final = (
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ELOOP,
)
"""Errors of the system that the names in an archive bring about."""
_READ_ONLY: Final = 0o444
_EXECUTABLE: Final = 0o555


def unpack(parts: Iterator[bytes], folder: Path) -> None:
    """Unpack an archive into a new folder, read-only, and read all parts to their end.

    Raises:
        PayloadCorrupt: it is no archive that may be unpacked; the message says why.
        OSError: the folder cannot be written.
    """
    folder.mkdir()
    stream = _Stream(parts)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=_BLOCK) as archive:
            _Unpacking(folder).run(archive)
    except tarfile.TarError as error:
        raise PayloadCorrupt(f"it is no tar archive: {error}") from error
    # What follows the end mark counts for the digest.
    while stream.read(_BLOCK):
        pass


class _Stream:
    """The parts as a file that is read once."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._parts, b""))
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


class _Unpacking:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: list[tuple[Path, str]] = []
        self._folders: list[Path] = [root]
        self._files: set[PurePosixPath] = set()

    def run(self, archive: tarfile.TarFile) -> None:
        for count, member in enumerate(archive, 1):
            if count > MAX_ENTRIES:
                raise PayloadCorrupt(f"it has more than {MAX_ENTRIES} entries")
            self._take(archive, member)
            # The library keeps every entry that it has seen.
            archive.members = []  # type: ignore[attr-defined]
        # Only now, so that nothing is written through one.
        for place, target in self._links:
            with _entry_faults(place.name):
                place.symlink_to(target)
        root = self._root.resolve()
        for place, target in self._links:
            if not _resolved(place).is_relative_to(root):
                raise PayloadCorrupt(f"its link {place.relative_to(self._root)} leads out of it, to {target!r}")
        for folder in reversed(self._folders):
            folder.chmod(_EXECUTABLE)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or len(name.parts) > _MAX_DEPTH:
            raise PayloadCorrupt(f"its entry {member.name!r} would be outside of it, or lies too deep")
        if not name.parts:
            if member.isdir():
                return
            raise PayloadCorrupt("it has an entry without a name")
        place = self._root / name
        with _entry_faults(member.name):
            self._place(archive, member, name, place)

    def _place(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: PurePosixPath, place: Path) -> None:
        self._make_folder(place if member.isdir() else place.parent)
        if member.isdir():
            return
        if member.issym():
            self._links.append((place, member.linkname))
        elif member.islnk():
            target = PurePosixPath(member.linkname)
            if target not in self._files:
                raise PayloadCorrupt(f"its link {member.name!r} leads to no file before it")
            place.hardlink_to(self._root / target)
            self._files.add(name)
        elif member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
            self._write(archive, member, place)
            self._files.add(name)
        else:
            raise PayloadCorrupt(f"its entry {member.name!r} is neither a file nor a folder nor a link")

    def _make_folder(self, place: Path) -> None:
        missing = []
        while not place.is_dir():
            missing.append(place)
            place = place.parent
        for folder in reversed(missing):
            folder.mkdir(0o755)
            self._folders.append(folder)

    @staticmethod
    def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
        content = archive.extractfile(member)
        if content is None:
            raise PayloadCorrupt(f"its entry {member.name!r} cannot be read")
        with content, place.open("xb") as file:
            left = member.size
            while block := content.read(min(_BLOCK, left)):
                file.write(block)
                left -= len(block)
        if left:
            raise PayloadCorrupt(f"its entry {member.name!r} has less than its {member.size} bytes")
        place.chmod(_EXECUTABLE if member.mode & 0o111 else _READ_ONLY)


@contextmanager
def _entry_faults(name: str) -> Iterator[None]:
    """Tell errors for which an entry is to blame from those of the disk, which pass."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _OF_NAMES:
            raise
        raise PayloadCorrupt(f"its entry {name!r} cannot be where it is to be: {error}") from error


def _resolved(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError) as error:
        raise PayloadCorrupt(f"its link {link.name!r} leads to itself") from error
