"""The way of shared data out of the grid: into a folder of this machine, once, for all who want it later."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from htcgrid.errors import ResultsUnavailable
from htcgrid_dataplane.archive import unpack
from htcgrid_dataplane.errors import PayloadCorrupt
from htcgrid_events import DataReference

if TYPE_CHECKING:
    from htcgrid._transport.api import Api

_PART_BYTES = 16 * 1024 * 1024
_BLOCK = 256 * 1024


class Downloads:
    """A folder with data of one user's, each below its digest."""

    def __init__(self, api: "Api", folder: Path) -> None:
        self._api = api
        self._folder = folder

    async def resolve(self, event: Any) -> Any:
        """An event as its handler sees it: with the path of each shared data in place of the reference to it.

        Raises:
            ResultsUnavailable: data is not there any more, or is not what its digest says.
        """
        try:
            reference = DataReference.of_event(event)
        except ValidationError as error:
            raise ResultsUnavailable("the event refers to shared data by what is no reference") from error
        if reference is not None:
            return str(await self.fetch(reference))
        if isinstance(event, list):
            return [await self.resolve(item) for item in event]
        if isinstance(event, dict):
            return {key: await self.resolve(value) for key, value in event.items()}
        return event

    async def fetch(self, reference: DataReference) -> Path:
        """The path of data, which is downloaded unless it is there. Raises as `resolve` does."""
        place = self._folder / reference.sha256
        wanted = place / reference.name
        if wanted.exists():
            return wanted
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            stored, made = beside / "stored", beside / "made"
            await self._download(reference, stored)
            await asyncio.to_thread(_make, reference, stored, made)
            place.mkdir(mode=0o700, exist_ok=True)
            if not wanted.exists():
                made.rename(wanted)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return wanted

    async def _download(self, reference: DataReference, file: Path) -> None:
        record = await self._api.data(reference.sha256)
        if record.url is None:
            raise ResultsUnavailable(f"shared data {reference.name} is not all there: put it again")
        digest = hashlib.sha256()
        with file.open("wb") as stored:
            for offset in range(0, record.reference.bytes, _PART_BYTES):
                length = min(_PART_BYTES, record.reference.bytes - offset)
                part = await self._api.payloads.presigned.part(record.url, offset, length)
                digest.update(part)
                stored.write(part)
        if digest.hexdigest() != reference.sha256:
            raise ResultsUnavailable(
                f"shared data {reference.name} is not what its digest says: delete it, and put it again"
            )


def _make(reference: DataReference, stored: Path, wanted: Path) -> None:
    """Make of what is stored what a handler finds, which it may only read."""
    if not reference.folder:
        stored.rename(wanted)
        wanted.chmod(0o444)
        return
    try:
        with stored.open("rb") as tar:
            unpack(iter(lambda: tar.read(_BLOCK), b""), wanted)
    except PayloadCorrupt as error:
        raise ResultsUnavailable(f"shared data {reference.name} cannot be unpacked: {error}") from error
    stored.unlink()
    # Folders that cannot be written could be neither moved nor removed by their owner.
    for folder, _, _ in os.walk(wanted):
        Path(folder).chmod(0o755)
