"""A payload that comes in parts, several at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO

from htcgrid._aio.task_group import together

PARTS_AT_A_TIME = 4
"""Parts of one payload in flight: what is in memory beside the payload itself."""


async def assembled(first: bytes, size: int, part_bytes: int, read: Callable[[int, int], Awaitable[bytes]]) -> bytes:
    """A payload of `size` bytes that begins with `first`, and whose other parts `read` gives by offset and length.

    It is held once: no part is copied to put the whole together. Raises what `read` raises.
    """
    whole = BytesIO()  # gives what was written to it without a copy of it, as joining parts would make one
    whole.write(first)
    slots = asyncio.Semaphore(PARTS_AT_A_TIME)

    async def fetch(offset: int) -> None:
        async with slots:
            part = await read(offset, min(part_bytes, size - offset))
            whole.seek(offset)
            whole.write(part)

    await together(fetch(offset) for offset in range(len(first), size, part_bytes))
    return whole.getvalue()
