"""The dead letters table: one item per chunk of which tasks have failed for good.

    revision    moves with every write; a write is refused unless it is the one that the writer has read
    letters     compressed JSON; missing when all of them were redriven or purged
    purged      number set: tasks that are to be forgotten for good
    tenant, expires_at    whose it is; see `storage/ownership.py`

An item whose letters are gone stays as a mark: an event that comes again, or late, must not bring them back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pydantic import TypeAdapter

from htcgrid_chunks.attributes import (
    Item,
    binary,
    number,
    numbers,
    text,
)
from htcgrid_chunks.chunk import (
    ChunkKey,
    bucket_key,
)
from htcgrid_chunks.chunk_rows import key_attributes
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_controlplane.storage.ownership import owns
from htcgrid_dataplane import decode_lines, encode_lines
from htcgrid_events import DeadLetter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef

_LETTERS: TypeAdapter[tuple[DeadLetter, ...]] = TypeAdapter(tuple[DeadLetter, ...])


@dataclass(frozen=True)
class ChunkLetters:
    """The dead letters of one chunk."""

    key: ChunkKey
    letters: tuple[DeadLetter, ...] = ()
    purged: frozenset[int] = frozenset()
    """Tasks (by their index) whose letters are not to come back."""
    revision: int = 0
    """How often the item was written; 0 if it is not there yet."""


class DeadLetterStore:
    """Reads and writes items of the dead letters table."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def read(self, session: Session, chunk: int) -> ChunkLetters:
        """The letters of a chunk, as last written; none if there is no item. One that an earlier session of the same
        id left behind is empty, and is replaced by the next write."""
        key = ChunkKey(session.session_id, chunk)
        response = self._client.get_item(TableName=self._table, Key=key_attributes(key), ConsistentRead=True)
        if "Item" not in response:
            return ChunkLetters(key)
        item = Item(response["Item"])
        return _letters(key, item) if owns(session, item) else ChunkLetters(key, revision=item.number("revision"))

    def write(self, session: Session, letters: ChunkLetters) -> bool:
        """Replace the item of which `letters` was made; false if it has changed since."""
        values: dict[str, AttributeValueTypeDef] = {
            ":tenant": text(session.tenant),
            ":expires": number(session.expires_at),
            ":one": number(1),
        }
        sets, removes = ["tenant = :tenant", "expires_at = :expires"], list[str]()
        if letters.letters:
            values[":letters"] = binary(_encoded(letters.letters))
            sets.append("letters = :letters")
        else:
            removes.append("letters")
        if letters.purged:
            values[":purged"] = numbers(letters.purged)
            sets.append("purged = :purged")
        else:
            removes.append("purged")
        if letters.revision:
            values[":seen"] = number(letters.revision)
            condition = "revision = :seen"
        else:
            condition = "attribute_not_exists(revision)"
        try:
            self._client.update_item(
                TableName=self._table,
                Key=key_attributes(letters.key),
                UpdateExpression=f"SET {', '.join(sets)} ADD revision :one"
                + (f" REMOVE {', '.join(removes)}" if removes else ""),
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if condition_failed(error):
                return False
            raise
        return True

    def recorded(self, session: Session, bucket: int) -> dict[int, frozenset[int]]:
        """Of each chunk of a bucket that has an item, the tasks (by their index) that have a letter or were purged."""
        found: dict[int, frozenset[int]] = {}
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "KeyConditionExpression": "#bucket = :bucket",
            "ExpressionAttributeNames": {"#bucket": "bucket"},
            "ExpressionAttributeValues": {":bucket": text(bucket_key(session.session_id, bucket))},
            "ConsistentRead": True,
        }
        while True:
            response = self._client.query(**query)
            for item in _own(session, response["Items"]):
                chunk = item.number("chunk")
                letters = _letters(ChunkKey(session.session_id, chunk), item)
                found[chunk] = letters.purged.union(*(letter.tasks for letter in letters.letters))
            if "LastEvaluatedKey" not in response:
                return found
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def bucket(self, session: Session, bucket: int, after: int, limit: int) -> tuple[list[ChunkLetters], int | None]:
        """Items with letters of a bucket's chunks behind chunk `after`, in order, among the next `limit` items; and the
        chunk after which to go on, if any."""
        response = self._client.query(
            TableName=self._table,
            KeyConditionExpression="#bucket = :bucket AND chunk > :after",
            FilterExpression="attribute_exists(letters)",
            ExpressionAttributeNames={"#bucket": "bucket"},
            ExpressionAttributeValues={
                ":bucket": text(bucket_key(session.session_id, bucket)),
                ":after": number(after),
            },
            ConsistentRead=True,
            Limit=limit,
        )
        items = _own(session, response["Items"])
        last = response.get("LastEvaluatedKey")
        found = [_letters(ChunkKey(session.session_id, item.number("chunk")), item) for item in items]
        return found, Item(last).number("chunk") if last else None


def _own(session: Session, rows: Iterable[Mapping[str, Any]]) -> list[Item]:
    return [item for item in map(Item, rows) if owns(session, item)]


def _encoded(letters: Sequence[DeadLetter]) -> bytes:
    return encode_lines([_LETTERS.dump_json(tuple(letters))])


def _letters(key: ChunkKey, item: Item) -> ChunkLetters:
    data = item.binary("letters")
    return ChunkLetters(
        key=key,
        letters=_LETTERS.validate_json(decode_lines(data, 1)[0]) if data is not None else (),
        purged=item.numbers("purged"),
        revision=item.number("revision"),
    )
