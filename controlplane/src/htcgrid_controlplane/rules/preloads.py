"""What the agents of a partition are to fetch before tasks want it. Pure values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from htcgrid_events import DataReference

MAX_ENTRIES = 100
MAX_BYTES = 20 * 1024**3
"""Of a partition: every agent reads the row that lists them, and its host holds what they name."""


@dataclass(frozen=True)
class Preload:
    """One data of a tenant. Moments are in ms."""

    reference: DataReference
    asked_at: int
    """When a session last asked for it."""
    expires_at: int
    """The last deadline of these sessions, rounded up to an hour."""


def merged(
    entries: Mapping[str, Preload], tenant: str, references: Iterable[DataReference], expires_at: int, now: int
) -> Mapping[str, Preload]:
    """The entries of a partition, by `<tenant>/<sha256>`, with these references; of more than it may have, those that
    were asked for longest ago are left out. The same entries where they say all that already."""
    asked = {f"{tenant}/{reference.sha256}": reference for reference in references}
    if all(_covers(entries.get(key), reference, expires_at) for key, reference in asked.items()):
        return entries
    kept = {key: entry for key, entry in entries.items() if entry.expires_at > now}
    for key, reference in asked.items():
        former = kept[key].expires_at if key in kept else 0
        kept[key] = Preload(reference, now, max(expires_at, former))
    oldest_first = sorted(kept, key=lambda key: kept[key].asked_at)
    for key in oldest_first:
        if len(kept) <= MAX_ENTRIES and sum(entry.reference.bytes for entry in kept.values()) <= MAX_BYTES:
            break
        del kept[key]
    return kept


def _covers(entry: Preload | None, reference: DataReference, expires_at: int) -> bool:
    return entry is not None and entry.reference == reference and entry.expires_at >= expires_at
