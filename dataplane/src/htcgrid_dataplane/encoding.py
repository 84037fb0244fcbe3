"""How the inputs and the results of a chunk are written: JSON lines, compressed with zlib.

JSON as every encoder writes it by default holds no raw newline, so a chunk is cut into its tasks without parsing
anybody's JSON. Level 1 compresses the alike events of one session several times over for about 10 µs per KB.

Whoever wrote a payload may be hostile: 260 KB of zlib data may hold 256 MB, or 256 million lines. So it is expanded in
blocks, and given up at the first block that has more bytes or lines than a chunk of its size can have.
"""

import sys
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadTooLarge

MAX_EXPANDED_BYTES = 256 * 1024 * 1024
"""Most bytes that one chunk may expand to: what keeps a small hostile blob from filling an agent's memory. Nothing
larger is written, so that what is written can be read."""

MAX_ENCODED_BYTES = MAX_EXPANDED_BYTES + 1024 * 1024
"""Most bytes of an encoded chunk: zlib adds 5 bytes to each 16 KB that do not compress ("zlib Technical Details")."""

_BLOCK = 256 * 1024
_PIECE = 64 * 1024
"""Bytes of input that zlib is given at a time: what it has not used of them is copied for every block."""
_SAMPLE = 64 * 1024
"""Bytes of a long line by which it is told whether it becomes smaller."""
_WORTH_IT = 0.7
"""What is not made smaller than this part of it is not compressed."""
_LINE_OVERHEAD = sys.getsizeof(b"") + 8
"""Bytes that Python needs for each line beside its text: an object, and a place in a list."""


def encode_lines(lines: Iterable[bytes]) -> bytes:
    """Compress the JSON texts of a chunk's tasks, one a line. Keeps no more of them than their compressed form.

    Raises:
        ValueError: a text holds a newline, so that it would be read as two.
        PayloadTooLarge: the texts are more than `MAX_EXPANDED_BYTES` together.
    """
    compressor: Any = None
    data: list[bytes] = []
    batch: list[bytes] = []
    size = pending = 0
    for line in lines:
        if b"\n" in line:
            raise ValueError("a JSON text with a newline cannot be a line: encode it without indentation")
        size += len(line) + 1
        if size > MAX_EXPANDED_BYTES:
            raise PayloadTooLarge(f"the texts of a chunk have more than {MAX_EXPANDED_BYTES} bytes, which nobody reads")
        if pending > _BLOCK:
            compressor = compressor or zlib.compressobj(_level(batch))
            data.append(compressor.compress(b"\n".join(batch)))
            batch, pending = [b""], 0  # joined with the next line, it is the newline before that
        batch.append(line)
        pending += len(line)
    compressor = compressor or zlib.compressobj(_level(batch))
    data.append(compressor.compress(b"\n".join(batch)))
    data.append(compressor.flush())
    return b"".join(data)


def _level(first: Sequence[bytes]) -> int:
    """How hard to compress a payload that begins with these lines: what is large and hardly becomes smaller, such as
    binary data in Base64, is stored as it is, since the time would be worth more than the bytes."""
    longest = max(first, key=len, default=b"")
    if len(longest) < _BLOCK:
        return 1
    sample = longest[-_SAMPLE:]
    return 1 if len(zlib.compress(sample, 1)) < _WORTH_IT * len(sample) else 0


def decode_lines(data: bytes, count: int, max_bytes: int | None = None) -> list[bytes]:
    """The JSON texts of a chunk of `count` tasks, in their order.

    Raises:
        PayloadCorrupt: `data` is not what `encode_lines` makes of `count` texts, or they have more than `max_bytes`, by
            default `MAX_EXPANDED_BYTES`, together.
    """
    return [line for lines in _lines([data], count, max_bytes) for line in lines]


def iterate_lines(parts: Iterable[bytes], count: int) -> Iterator[bytes]:
    """The JSON texts of a chunk of `count` tasks, whose payload comes in `parts`. Keeps a block of them in memory.

    Raises:
        PayloadCorrupt: as `decode_lines`; perhaps after the first lines.
    """
    for lines in _lines(parts, count):
        yield from lines


def pick_lines(parts: Iterable[bytes], count: int, offsets: Collection[int]) -> dict[int, bytes]:
    """The JSON texts at `offsets` of a chunk of `count` tasks, whose payload comes in `parts`. Keeps no others in
    memory, and reads no further than the last.

    Raises:
        PayloadCorrupt: as `decode_lines`.
    """
    wanted = frozenset(offsets)
    found: dict[int, bytes] = {}
    lines = enumerate(iterate_lines(parts, count))
    while len(found) < len(wanted):
        offset, line = next(lines)
        if offset in wanted:
            found[offset] = line
    return found


def decoded_size(data: bytes, count: int, max_bytes: int | None = None) -> int:
    """How many bytes of memory the lines of a payload will take. Needs only a little itself.

    Raises:
        PayloadCorrupt: as `decode_lines`.
    """
    return sum(map(len, _counted(_expanded([data], max_bytes), count))) + count * _LINE_OVERHEAD


def lines_memory(lines: Sequence[bytes]) -> int:
    """How many bytes of memory lines take."""
    return sum(map(len, lines)) + len(lines) * _LINE_OVERHEAD


def _lines(parts: Iterable[bytes], count: int, max_bytes: int | None = None) -> Iterator[list[bytes]]:
    """The lines, as they become complete."""
    begun: list[bytes] = []
    for block in _counted(_expanded(parts, max_bytes), count):
        first, *others = block.split(b"\n")
        begun.append(first)
        if others:
            yield [b"".join(begun), *others[:-1]]
            begun = [others[-1]]
    yield [b"".join(begun)]


def _counted(blocks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """`blocks`, until they hold more lines than `count`."""
    found = 1
    for block in blocks:
        found += block.count(b"\n")
        if found > count:
            raise PayloadCorrupt(f"a payload holds more than the {count} lines of its chunk's tasks")
        yield block
    if found != count:
        raise PayloadCorrupt(f"a payload holds {found} lines for a chunk of {count} tasks")


def _expanded(parts: Iterable[bytes], max_bytes: int | None) -> Iterator[bytes]:
    """The text of a payload in blocks, none of them large."""
    limit = MAX_EXPANDED_BYTES if max_bytes is None else max_bytes
    decoder = zlib.decompressobj()
    size = 0
    for piece in _pieces(parts):
        left, full = piece, True
        while not decoder.eof and (left or full):
            try:
                block = decoder.decompress(left, _BLOCK)
            except zlib.error as error:
                raise PayloadCorrupt(f"a payload is not zlib data: {error}") from error
            # A full block may leave text in the decoder, with no input left.
            left, full = decoder.unconsumed_tail, len(block) == _BLOCK
            size += len(block)
            if size > limit:
                raise PayloadCorrupt(f"a payload expands beyond {limit} bytes")
            yield block
        if decoder.unused_data or (decoder.eof and left):
            raise PayloadCorrupt("a payload goes on after its end")
    if not decoder.eof:
        raise PayloadCorrupt("a payload is cut short")


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), _PIECE):
            yield part[start : start + _PIECE]
