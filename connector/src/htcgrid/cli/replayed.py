"""A file of which the beginning was read already, to be read from the beginning once more."""

from io import BufferedIOBase, BytesIO


class Replayed(BufferedIOBase):
    """Gives what was read, and then what follows it in the file. For `readline` and `read1` alone."""

    def __init__(self, head: bytes, file: BufferedIOBase) -> None:
        self._head = BytesIO(head)
        self._file = file

    def readline(self, size: int | None = -1, /) -> bytes:
        """See `io.IOBase.readline`. What was read ends with a line."""
        return self._head.readline(size) or self._file.readline(size)

    def read1(self, size: int = -1, /) -> bytes:
        """See `io.BufferedIOBase.read1`."""
        return self._head.read1(size) or self._file.read1(size)
