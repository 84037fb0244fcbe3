"""The file that a command writes: a regular file is replaced as a whole, anything else is written into."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from htcgrid.cli.exits import BadInput, OutputFailed
from htcgrid.cli.output import standard_output
from htcgrid.errors import GridError


@contextmanager
def output_file(path: Path | None) -> Iterator[BinaryIO]:
    """Where to write: a file or, where none is named, standard output.

    A regular file appears whole or not at all, keeps its mode, and is found through symbolic links. A device, a pipe
    or a socket is opened and written into.

    Raises:
        BadInput: the file cannot be opened; nothing was changed.
        OutputFailed: it cannot be written to the end. A regular file is as it was before.
    """
    if path is None or str(path) == "-":
        with standard_output() as stream:
            yield stream
        return
    target = _followed(path)
    try:
        former = target.stat()
    except FileNotFoundError:
        former = None
    except OSError as error:
        raise _refused(path, error) from error
    if former is None:
        place = _draft(path, target, None)
    elif _never_replaced(target) or not stat.S_ISREG(former.st_mode):
        place = _opened(path, target)
    elif not os.access(target, os.W_OK):
        raise BadInput(f"{path} cannot be written: you may not write to it")
    else:
        place = _draft(path, target, former)
    with place as stream:
        yield stream


@contextmanager
def _opened(path: Path, target: Path) -> Iterator[BinaryIO]:
    try:
        stream = target.open("ab")  # not to cut off what `>>` of a shell adds to
    except OSError as error:
        raise _refused(path, error) from error
    with _writing(path), stream:
        yield stream


@contextmanager
def _draft(path: Path, target: Path, former: os.stat_result | None) -> Iterator[BinaryIO]:
    """A file beside the target, which takes its place when all went well."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}-")
    except OSError as error:
        raise _refused(path, error) from error
    draft = Path(name)
    try:
        with _writing(path), os.fdopen(handle, "wb") as stream:
            yield stream
        with _writing(path):
            if former is not None:
                with suppress(PermissionError):  # only root gives files away
                    os.chown(draft, former.st_uid, former.st_gid)
            draft.chmod(0o666 & ~_umask() if former is None else stat.S_IMODE(former.st_mode))
            draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _followed(path: Path) -> Path:
    """Where symbolic links lead, as far as that is a place for a file of its own."""
    for _ in range(40):  # as many as Linux follows
        if not path.is_symlink() or _never_replaced(path):
            break
        path = path.parent / path.readlink()
    return path


def _never_replaced(path: Path) -> bool:
    """Whether a path stands for something that is open already, as `/dev/stdout` and a shell's `>(command)` do."""
    folder = path.parent.resolve()
    return folder == Path("/dev") or folder.is_relative_to("/proc")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except GridError:  # of which some are kinds of OSError
        raise
    except OSError as error:
        raise OutputFailed(f"{path} cannot be written to the end: {error.strerror}") from error


def _refused(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path} cannot be written: {error.strerror}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
