"""What is put into the grid as shared data: a file, a folder or bytes, read in parts."""

import hashlib
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from htcgrid.errors import InvalidData
from htcgrid_dataplane.folders import NotPackable, pack_folder
from htcgrid_events import MAX_DATA_BYTES, DataReference

_UNNAMED = "data"


class Source:
    """Data to be put, which must not change meanwhile. Several threads may read it."""

    def __init__(self, file: BinaryIO, name: str, *, folder: bool) -> None:
        self._file = file
        self._reading = threading.Lock()
        size = file.seek(0, 2)
        if size > MAX_DATA_BYTES:
            raise InvalidData(f"{name} has {size:,} bytes, and shared data may have {MAX_DATA_BYTES:,}: split it")
        digest = self._digest()
        try:
            self.reference = DataReference(sha256=digest, bytes=size, name=name, folder=folder)
        except ValueError as error:
            raise InvalidData(f"{name!r} cannot be the name of shared data: give another `name`") from error

    def part(self, offset: int, length: int) -> bytes:
        """Some of its bytes.

        Raises:
            InvalidData: it has become shorter.
        """
        with self._reading:
            self._file.seek(offset)
            data = self._file.read(length)
        if len(data) < length:
            raise InvalidData(f"{self.reference.name} has become shorter while it was put: put it again")
        return data

    def check(self) -> None:
        """Make sure that it still is what it was.

        Raises:
            InvalidData: it has changed.
        """
        with self._reading:
            unchanged = self._digest() == self.reference.sha256
        if not unchanged:
            raise InvalidData(f"{self.reference.name} has changed while it was put: put it again")

    def _digest(self) -> str:
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]  # all have readinto


@contextmanager
def opened(data: "Path | str | bytes", name: str | None) -> Iterator[Source]:
    """What a program puts: bytes, or the path of a file or a folder. A folder is packed into a temporary file.

    Raises:
        InvalidData: it cannot be read, is neither file nor folder, is too large, or has a name that it cannot have.
    """
    if isinstance(data, bytes):
        yield Source(BytesIO(data), name or _UNNAMED, folder=False)
        return
    path = Path(data)
    name = name or path.resolve().name
    try:
        if path.is_dir():
            with tempfile.TemporaryFile() as packed:
                pack_folder(path, packed)
                yield Source(packed, name, folder=True)
            return
        if path.exists() and not path.is_file():
            raise InvalidData(f"{path} is neither a file nor a folder")
        with path.open("rb") as file:
            yield Source(file, name, folder=False)
    except NotPackable as error:
        raise InvalidData(str(error)) from error
    except OSError as error:
        raise InvalidData(f"{error.filename or path} cannot be read: {error.strerror}") from error
