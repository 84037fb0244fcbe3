"""What partitions preload: a row of the partitions table for each, which its agents read.

partition, entry    key: its name, and `preload`
preload             map: `<tenant>/<sha256>` to bytes, name, folder, asked_at (ms) and expires_at (seconds)
revision            moves with every write; a write is refused unless its writer has read the last one
expires_at          seconds: that of the entry which expires last
"""

import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_chunks.attributes import Item, flag, number, text
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.rules.preloads import Preload, merged
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_events import DataReference

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_ENTRY = "preload"
_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 6


class PreloadStore:
    """Reads and writes what partitions preload."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def read(self, partition: str) -> Mapping[str, Preload]:
        """What a partition preloads, by `<tenant>/<sha256>`, as last written."""
        return self._read(partition)[0]

    def add(self, partition: str, tenant: str, references: Sequence[DataReference], expires_at: int, now: int) -> None:
        """Let a partition preload data of a tenant until a moment (ms). `now` is in ms.

        Raises:
            StorageUnavailable: the row was not written, for whichever reason.
        """
        try:
            for retry in range(1, _TRIES + 1):
                entries, revision = self._read(partition)
                wanted = merged(entries, tenant, references, expires_at, now)
                if wanted is entries or self._write(partition, wanted, revision):
                    return
                time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
        except (ClientError, BotoCoreError) as error:
            raise StorageUnavailable(f"what partition {partition} preloads was not written: {error}") from error
        raise StorageUnavailable(f"what partition {partition} preloads is being written by too many at once")

    def _read(self, partition: str) -> tuple[Mapping[str, Preload], int]:
        response = self._client.get_item(
            TableName=self._table,
            Key=_key(partition),
            ConsistentRead=True,
            ProjectionExpression="preload, revision",
        )
        row: Mapping[str, Any] = response.get("Item", {})
        listed = row.get("preload", {"M": {}})["M"]
        return {key: _entry(key, Item(value["M"])) for key, value in listed.items()}, Item(row).number("revision")

    def _write(self, partition: str, entries: Mapping[str, Preload], seen: int) -> bool:
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(partition),
                UpdateExpression="SET preload = :entries, revision = :next, expires_at = :expires",
                ConditionExpression="revision = :seen" if seen else "attribute_not_exists(revision)",
                ExpressionAttributeValues={
                    ":entries": {"M": {key: {"M": _attributes(entry)} for key, entry in entries.items()}},
                    ":next": number(seen + 1),
                    ":expires": number(max(entry.expires_at for entry in entries.values()) // 1000),
                    **({":seen": number(seen)} if seen else {}),
                },
            )
        except ClientError as error:
            if condition_failed(error):
                return False
            raise
        return True


def _key(partition: str) -> "dict[str, AttributeValueTypeDef]":
    return {"partition": text(partition), "entry": text(_ENTRY)}


def _attributes(entry: Preload) -> "dict[str, AttributeValueTypeDef]":
    return {
        "bytes": number(entry.reference.bytes),
        "name": text(entry.reference.name),
        "folder": flag(entry.reference.folder),
        "asked_at": number(entry.asked_at),
        "expires_at": number(entry.expires_at // 1000),
    }


def _entry(key: str, item: Item) -> Preload:
    reference = DataReference(
        sha256=key.rpartition("/")[2], bytes=item.number("bytes"), name=item.text("name"), folder=item.flag("folder")
    )
    return Preload(reference, item.number("asked_at"), item.number("expires_at") * 1000)
