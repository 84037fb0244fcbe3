"""Reads many rows by their keys."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from htcgrid_chunks.attributes import Item
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import KeysAndAttributesTypeDef

MAX_KEYS = 100
"""Most keys in one BatchGetItem (DynamoDB API Reference)."""
_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 10


def batch_get(
    client: "DynamoDBClient", table: str, keys: Sequence[Mapping[str, Any]], projection: str | None = None
) -> Iterator[Item]:
    """The rows with these keys, as last written, in any order; those that do not exist are left out. `projection` names
    the attributes that are wanted, if not all are.

    Raises:
        StorageUnavailable: DynamoDB kept refusing.
    """
    for start in range(0, len(keys), MAX_KEYS):
        yield from _get_some(client, table, keys[start : start + MAX_KEYS], projection)


def _get_some(
    client: "DynamoDBClient", table: str, keys: Sequence[Mapping[str, Any]], projection: str | None
) -> Iterator[Item]:
    for retry in range(1, _TRIES + 1):
        request: KeysAndAttributesTypeDef = {"Keys": keys, "ConsistentRead": True}
        if projection:
            request["ProjectionExpression"] = projection
        response = client.batch_get_item(RequestItems={table: request})
        yield from (Item(row) for row in response["Responses"].get(table, []))
        unprocessed = response.get("UnprocessedKeys", {})
        if table not in unprocessed:
            return
        keys = [dict(key) for key in unprocessed[table]["Keys"]]
        time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
    raise StorageUnavailable(f"{len(keys)} rows of {table} could not be read")
