"""The index of leases, and the writes that recover chunks whose agents have died.

    index `leases`    lease_shard, claimable_at    keys alone; rows that have a `lease_shard`

    requeue           running, attempt and claimable_at as seen    → RETRY, claimable_at = end of the backoff; indexed
    take              attempt and claimable_at as seen             → attempt + 1, owner, claimable_at = end of the lease
    delist            attempt and claimable_at as seen             → not in the index

Whoever dies between requeueing a chunk and delisting it leaves it in the index, where it is found again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htcgrid_chunks.attributes import (
    Item,
    number,
    text,
)
from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
)
from htcgrid_chunks.chunk_rows import chunk_of, key_attributes, row_key
from htcgrid_chunks.lease_rules import shard_of
from htcgrid_chunks.partiql import (
    Batches,
    Statement,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import ChunkLease
from htcgrid_controlplane.storage.batch_get import (
    MAX_KEYS,
    batch_get,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef

INDEX = "leases"
_AS_SEEN = 'WHERE "bucket" = ? AND chunk = ? AND attempt = ? AND claimable_at = ?'


@dataclass(frozen=True)
class Entry:
    """An entry of the index: which chunk, and when (ms) its lease ends."""

    key: ChunkKey
    claimable_at: int


class LeaseStore:
    """Finds expired leases, and writes what is done about them."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._batches = Batches(client)

    def expired(
        self, shard: int, before: int, after: Entry | None = None, limit: int = MAX_KEYS
    ) -> tuple[list[Entry], Entry | None]:
        """Entries of a shard whose leases ended at `before` (ms) or earlier, behind `after`, oldest first; and after
        which to go on, if there may be more."""
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "IndexName": INDEX,
            "KeyConditionExpression": "lease_shard = :shard AND claimable_at <= :before",
            "ExpressionAttributeValues": {":shard": number(shard), ":before": number(before)},
            "Limit": limit,
        }
        if after:
            query["ExclusiveStartKey"] = {
                "bucket": text(after.key.partition_key),
                "chunk": number(after.key.chunk),
                "lease_shard": number(shard),
                "claimable_at": number(after.claimable_at),
            }
        response = self._client.query(**query)
        entries = [_entry(Item(row)) for row in response["Items"]]
        last = response.get("LastEvaluatedKey")
        return entries, _entry(Item(last)) if last else None

    def read(self, keys: Iterable[ChunkKey]) -> list[Chunk]:
        """The rows of these chunks, as last written; those that are gone are left out.

        Raises:
            StorageUnavailable: DynamoDB kept refusing.
        """
        rows = batch_get(
            self._client,
            self._table,
            [key_attributes(key) for key in dict.fromkeys(keys)],
        )
        return [chunk_of(_key_of(row), row) for row in rows]

    def requeue(self, work: Sequence[tuple[Chunk, int]]) -> list[bool]:
        """Let chunks that are said to run be claimed again from the second of each (ms) on; they are in the index
        then. False for each whose lease was renewed or that has ended meanwhile."""
        return self._execute(
            Statement(
                f"UPDATE \"{self._table}\" SET state = '{ChunkState.RETRY}' SET claimable_at = ? SET lease_shard = ? "
                f"{_AS_SEEN} AND state = '{ChunkState.RUNNING}'",
                [number(at), number(shard_of(chunk.key)), *_as_seen(chunk)],
            )
            for chunk, at in work
        )

    def take(self, chunk: Chunk, owner: str, lease_expires_at: int) -> ChunkLease | None:
        """Begin another attempt at a chunk that runs no more, unless it has changed; agents leave it alone then."""
        [taken] = self._execute(
            [
                Statement(
                    f"UPDATE \"{self._table}\" SET state = '{ChunkState.RUNNING}' SET attempt = attempt + 1 "
                    f'SET "owner" = ? SET claimable_at = ? {_AS_SEEN}',
                    [text(owner), number(lease_expires_at), *_as_seen(chunk)],
                )
            ]
        )
        return ChunkLease(chunk.key, owner, chunk.attempt + 1) if taken else None

    def delist(self, work: Sequence[tuple[Chunk, int]]) -> list[bool]:
        """Take chunks, whose `claimable_at` is the second of each, out of the index; false for each that changed."""
        return self._execute(
            Statement(
                f'UPDATE "{self._table}" REMOVE lease_shard {_AS_SEEN}',
                [*row_key(chunk.key), number(chunk.attempt), number(at)],
            )
            for chunk, at in work
        )

    def _execute(self, statements: Iterable[Statement]) -> list[bool]:
        return [written.accepted for written in self._batches.execute(list(statements))]


def _as_seen(chunk: Chunk) -> "list[AttributeValueTypeDef]":
    return [*row_key(chunk.key), number(chunk.attempt), number(chunk.claimable_at)]


def _key_of(item: Item) -> ChunkKey:
    return ChunkKey(item.text("bucket").partition("#")[0], item.number("chunk"))


def _entry(item: Item) -> Entry:
    return Entry(_key_of(item), item.number("claimable_at"))
