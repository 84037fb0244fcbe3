"""The way of shared data into the grid."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from htcgrid._aio.task_group import together
from htcgrid._transport.parts import PARTS_AT_A_TIME
from htcgrid_events import PutData

if TYPE_CHECKING:
    from htcgrid._data.source import Source
    from htcgrid._transport.api import Api
    from htcgrid_events import DataReference, DataUpload

Progress = Callable[[int], object]
"""Called with how many bytes more were uploaded."""


async def upload(api: "Api", source: "Source", progress: Progress | None = None) -> "DataReference":
    """Have data in the grid, and upload it unless it is there. Four parts are in memory at most.

    Raises what `Api` raises.
    """
    wanted = source.reference
    request = PutData(bytes=wanted.bytes, name=wanted.name, folder=wanted.folder)
    place = await api.put_data(wanted.sha256, request)
    if place.upload is not None:
        await _send(api, source, place.upload, progress)
        # The grid knows the digest of no data that came in parts.
        await asyncio.to_thread(source.check)
        await api.complete_data(wanted.sha256)
    return place.reference


async def _send(api: "Api", source: "Source", upload: "DataUpload", progress: Progress | None) -> None:
    slots = asyncio.Semaphore(PARTS_AT_A_TIME)
    size = source.reference.bytes

    async def send(number: int, url: str) -> None:
        async with slots:
            offset = number * upload.part_bytes
            part = await asyncio.to_thread(source.part, offset, min(upload.part_bytes, size - offset))
            # What lies there already came with an earlier try of this request.
            await api.payloads.presigned.put(url, upload.headers, part)
            if progress is not None:
                progress(len(part))

    await together(send(number, url) for number, url in enumerate(upload.urls))
