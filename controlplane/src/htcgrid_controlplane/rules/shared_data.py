"""Shared data as its row tells of it, and how long it is kept. Pure values."""

from dataclasses import dataclass
from datetime import timedelta

from htcgrid_events import DataRecord, DataReference, DataState

OBJECT_DAYS = 395
"""After so many days the bucket expires an object: the rule ExpirePayloads of the template."""
UPLOAD_TIME = timedelta(days=1)
"""For how long an upload may go on; the rule AbortUploads of the template forgets its parts then."""
_BETWEEN_COPIES = timedelta(days=1)
_DELETION_TIME = timedelta(minutes=1)
"""Whoever deletes takes less: a function answers within 30 s."""
_HOUR = 3_600_000


@dataclass(frozen=True)
class DataRow:
    """A row of the data table. All moments are in ms."""

    tenant: str
    sha256: str
    size: int
    name: str
    folder: bool
    state: DataState
    created_at: int
    expires_at: int
    needed_until: int = 0
    """The last deadline of sessions that refer to it, rounded up to an hour."""
    upload: str = ""
    """The id of its upload in parts, while it is uploaded in several."""
    stored_at: int = 0
    """When the object was written: its age, by which the bucket expires it, counts from here."""
    copying_at: int = 0
    """When somebody last began to copy the object onto itself."""
    deleting_at: int = 0
    """When somebody last began to delete it."""
    revision: int = 0
    """How often the row was written."""

    def there(self, now: int) -> bool:
        """Whether tasks may refer to it."""
        return self.state is DataState.THERE and self.expires_at > now

    def gone(self, now: int) -> bool:
        """Whether it counts as not there at all: it has expired, or who deleted it died over that."""
        return self.expires_at <= now or (
            self.state is DataState.DELETING and self.deleting_at + _ms(_DELETION_TIME) <= now
        )

    @property
    def kept_until(self) -> int:
        """The last moment up to which its row may say that the object is there."""
        return self.stored_at + _ms(timedelta(days=OBJECT_DAYS))

    def needs_copy(self, expires_at: int, now: int) -> bool:
        """Whether the object must be written anew to be kept until then, and was not lately."""
        return expires_at > self.kept_until and self.copying_at + _ms(_BETWEEN_COPIES) <= now

    @property
    def reference(self) -> DataReference:
        """As events refer to it."""
        return DataReference(sha256=self.sha256, bytes=self.size, name=self.name, folder=self.folder)

    def record(self, url: str | None = None) -> DataRecord:
        """As its owner sees it."""
        return DataRecord(
            reference=self.reference,
            state=self.state,
            created_at=self.created_at,
            expires_at=self.expires_at,
            needed_until=self.needed_until,
            url=url,
        )


def whole_hour(moment: int) -> int:
    """A moment rounded up to an hour, so that sessions of one hour write a row once."""
    return -(-moment // _HOUR) * _HOUR


def _ms(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)
