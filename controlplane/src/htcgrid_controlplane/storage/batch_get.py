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
        yield from batch_get_tables(client, {table: keys[start : start + MAX_KEYS]}, projection)[table]


def batch_get_tables(
    client: "DynamoDBClient", keys: Mapping[str, Sequence[Mapping[str, Any]]], projection: str | None = None
) -> dict[str, list[Item]]:
    """The rows with these keys of each table, `MAX_KEYS` at most together, in one request. See `batch_get`."""
    wanted: dict[str, KeysAndAttributesTypeDef] = {table: {"Keys": some} for table, some in keys.items() if some}
    found: dict[str, list[Item]] = {table: [] for table in keys}
    for retry in range(1, _TRIES + 1):
        response = client.batch_get_item(
            RequestItems={table: _consistent(some["Keys"], projection) for table, some in wanted.items()}
        )
        for table, rows in response["Responses"].items():
            found[table] += map(Item, rows)
        wanted = {table: {"Keys": some["Keys"]} for table, some in response.get("UnprocessedKeys", {}).items()}
        if not wanted:
            return found
        time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
    raise StorageUnavailable(f"rows of {', '.join(wanted)} could not be read")


def _consistent(keys: Sequence[Mapping[str, Any]], projection: str | None) -> "KeysAndAttributesTypeDef":
    request: KeysAndAttributesTypeDef = {"Keys": keys, "ConsistentRead": True}
    if projection:
        request["ProjectionExpression"] = projection
    return request
