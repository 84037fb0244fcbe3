"""How the inputs and the results of a chunk are written: JSON lines, compressed with zlib.

JSON as every encoder writes it by default holds no raw newline, so a chunk is cut into its tasks without parsing
anybody's JSON. Level 1 compresses the alike events of one session several times over for about 10 µs per KB.
"""

import zlib
from collections.abc import Iterable

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadTooLarge

MAX_EXPANDED_BYTES = 256 * 1024 * 1024
"""Most bytes that one chunk may expand to: what keeps a small hostile blob from filling an agent's memory. Nothing
larger is written, so that what is written can be read."""

MAX_ENCODED_BYTES = MAX_EXPANDED_BYTES + 1024 * 1024
"""Most bytes of an encoded chunk: zlib adds 5 bytes to each 16 KB that do not compress ("zlib Technical Details")."""


def encode_lines(lines: Iterable[bytes]) -> bytes:
    """Compress the JSON texts of a chunk's tasks, one a line.

    Raises:
        ValueError: a text holds a newline, so that it would be read as two.
        PayloadTooLarge: the texts are more than `MAX_EXPANDED_BYTES` together.
    """
    parts = list(lines)
    size = sum(map(len, parts)) + len(parts)
    if size > MAX_EXPANDED_BYTES:
        raise PayloadTooLarge(f"the texts of a chunk have {size} bytes; at most {MAX_EXPANDED_BYTES} can be read")
    if any(b"\n" in part for part in parts):
        raise ValueError("a JSON text with a newline cannot be a line: encode it without indentation")
    return zlib.compress(b"\n".join(parts), level=1)


def decode_lines(data: bytes, count: int) -> list[bytes]:
    """The JSON texts of a chunk of `count` tasks, in their order.

    Raises:
        PayloadCorrupt: `data` is not what `encode_lines` makes of `count` texts.
    """
    decoder = zlib.decompressobj()
    try:
        text = decoder.decompress(data, MAX_EXPANDED_BYTES)
    except zlib.error as error:
        raise PayloadCorrupt(f"a payload of {len(data)} bytes is not zlib data: {error}") from error
    if not decoder.eof:
        raise PayloadCorrupt(
            f"a payload of {len(data)} bytes is cut short or expands beyond {MAX_EXPANDED_BYTES} bytes"
        )
    # Counted before it is split: a line costs more memory than its byte.
    if (found := text.count(b"\n") + 1) != count:
        raise PayloadCorrupt(f"a payload holds {found} lines for a chunk of {count} tasks")
    return text.split(b"\n")
