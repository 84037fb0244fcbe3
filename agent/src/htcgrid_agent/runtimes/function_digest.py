"""A short name for the content of a function, so that each attempt can say which version of it ran."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

DIGEST_DIGITS = 16
"""Hexadecimal digits of a digest: 64 bits, by which no two versions of one function are ever mistaken."""

_EXECUTABLE = 0o111
NO_CONTENT = frozenset({"__pycache__", ".git"})
"""Folders that change without the function: what Python and Git leave behind."""


def function_digest(folder: Path) -> str:
    """The digest of a function's files: of their names, their content and whether they can be executed.

    It is that of a sorted list of lines, so that `worker_entrypoint.sh` finds the same one with `sha256sum`.

    Raises:
        OSError: a file cannot be read.
    """
    lines = sorted(line for file in _files(folder) for line in _lines(file, folder))
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()[:DIGEST_DIGITS]


def _lines(file: Path, folder: Path) -> Iterator[bytes]:
    name = b"./" + os.fsencode(file.relative_to(folder))
    if file.is_symlink():
        yield name + b" -> " + os.fsencode(file.readlink())
    elif file.is_file():
        with file.open("rb") as content:
            yield hashlib.file_digest(content, "sha256").hexdigest().encode() + b"  " + name
        if file.stat().st_mode & _EXECUTABLE:
            yield b"x " + name


def _files(folder: Path) -> Iterator[Path]:
    """All files and links."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = set(folders) - NO_CONTENT - set(links)
        yield from (Path(parent) / name for name in [*files, *links])
