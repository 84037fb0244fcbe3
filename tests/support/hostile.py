"""Payloads that no part of the grid writes, and a bound on the memory that reading them may take."""

import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

MIB = 1024 * 1024


def bomb(block: bytes, size: int, level: int = 9) -> bytes:
    """A zlib stream that expands to `size` bytes of repeated blocks."""
    compressor = zlib.compressobj(level)
    parts = [compressor.compress(block * (MIB // len(block))) for _ in range(size // MIB)]
    return b"".join([*parts, compressor.flush()])


HOSTILE = {
    "newlines": bomb(b"\n", 200 * MIB),
    "lines of one byte": bomb(b"0\n", 200 * MIB),
    "streams one after the other": zlib.compress(b"0\n0") * 10_000,
    "a long tail": zlib.compress(b"0\n0") + bytes(MIB),
    "gzip": b"\x1f\x8b\x08" + bytes(1000),
    "text": b'{"x": 1}\n{"x": 2}',
    "cut short": bomb(b"0", 10 * MIB)[:-1],
}
"""What is sent instead of the two lines of a chunk."""


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fail where Python's objects take more memory than `size` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
