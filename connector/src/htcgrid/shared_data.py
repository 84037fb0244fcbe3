"""Data that many tasks share, as programs and events name it."""

from typing import Any

from htcgrid_events import DataReference


class SharedData(dict[str, Any]):
    """A reference to data in the grid: JSON, to be put anywhere into a task's event. The task's handler finds a text in
    its place: the path of a read-only file or folder."""

    def __init__(self, reference: DataReference) -> None:
        super().__init__(reference.in_event())
        self._reference = reference

    @property
    def sha256(self) -> str:
        """The digest of what is stored: the file, or the tar of a folder. It is the data's name in the grid."""
        return self._reference.sha256

    @property
    def bytes(self) -> int:
        """How much is stored."""
        return self._reference.bytes

    @property
    def name(self) -> str:
        """The last part of the path at which handlers find it."""
        return self._reference.name

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return self._reference.folder

    def __repr__(self) -> str:
        kind = "folder" if self.folder else "file"
        return f"<SharedData {kind} {self.name!r}, {self.bytes:,} bytes, {self.sha256[:8]}>"

    def __reduce__(self) -> tuple[type["SharedData"], tuple[DataReference]]:
        """Made anew from its reference, as a pickled dict would not be."""
        return SharedData, (self._reference,)
