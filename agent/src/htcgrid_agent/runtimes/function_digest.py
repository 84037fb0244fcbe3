"""A short name for the content of a function, so that each attempt can say which version of it ran."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

DIGEST_DIGITS = 16
"""Hexadecimal digits of a digest: 64 bits, by which no two versions of one function are ever mistaken."""

NO_CONTENT = frozenset({"__pycache__", ".git"})
"""Folders that change without the function: what Python and Git leave behind."""


def function_digest(folder: Path) -> str:
    """The digest of a function's files: of their names, their content and whether they can be executed.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in _files(folder):
        content = file.read_bytes() if file.is_file() else str(file.readlink()).encode()
        mode = b"x" if os.access(file, os.X_OK) else b"-"
        for part in (str(file.relative_to(folder)).encode(errors="surrogateescape"), mode, content):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()[:DIGEST_DIGITS]


def _files(folder: Path) -> Iterator[Path]:
    """All files and links, in an order that depends on their names alone."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = sorted(set(folders) - NO_CONTENT - set(links))
        yield from (Path(parent) / name for name in sorted([*files, *links]))
