"""The data table: a row for each data of a tenant that its tasks may share.

    tenant, sha256                 key
    size, name, folder             what was put
    state                          UPLOADING, THERE, DELETING
    created_at, needed_until       ms
    upload                         id of an upload in parts, while it goes on
    stored_at, copying_at          ms: since when the object's age counts, when it was last begun to be copied
    deleting_at                    ms: when somebody last began to delete it
    revision                       moves with every write; a write is refused unless its writer has read the last one
    expires_at                     seconds

A row is there before its object, so that what is being uploaded counts towards the tenant's limit, and is deleted after
it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import Item, flag, number, text
from htcgrid_controlplane.rules.shared_data import DataRow
from htcgrid_controlplane.storage.batch_get import batch_get
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_events import DataState

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef


class SharedDataStore:
    """Reads and writes rows of the data table."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def read(self, tenant: str, sha256: str) -> DataRow | None:
        """The row, as last written, expired or not; none if there is none."""
        response = self._client.get_item(TableName=self._table, Key=_key(tenant, sha256), ConsistentRead=True)
        return _row(Item(response["Item"])) if "Item" in response else None

    def read_many(self, tenant: str, digests: frozenset[str]) -> list[DataRow]:
        """The rows with these digests, of those that have one.

        Raises:
            StorageUnavailable: DynamoDB kept refusing.
        """
        keys = [_key(tenant, sha256) for sha256 in sorted(digests)]
        return [_row(item) for item in batch_get(self._client, self._table, keys)]

    def page(self, tenant: str, after: str | None, limit: int) -> tuple[list[DataRow], str | None]:
        """Rows of a tenant behind a digest, in the order of digests, and the digest behind which to go on."""
        query = self._query(tenant)
        query["Limit"] = limit
        if after is not None:
            query["ExclusiveStartKey"] = _key(tenant, after)
        response = self._client.query(**query)
        last = response.get("LastEvaluatedKey")
        return [_row(Item(item)) for item in response["Items"]], Item(last).text("sha256") if last else None

    def all(self, tenant: str) -> Iterator[DataRow]:
        """All rows of a tenant, each as last written."""
        query = self._query(tenant)
        while True:
            response = self._client.query(**query)
            yield from (_row(Item(item)) for item in response["Items"])
            if "LastEvaluatedKey" not in response:
                return
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def write(self, row: DataRow, seen: DataRow | None) -> DataRow | None:
        """Write a row in place of the one that was seen, or of none. Gives it as written; none if the row was written
        since."""
        written = replace(row, revision=seen.revision + 1 if seen else 1)
        condition, values = _condition(seen)
        try:
            self._client.put_item(
                TableName=self._table, Item=_attributes(written), ConditionExpression=condition, **values
            )
        except ClientError as error:
            if condition_failed(error):
                return None
            raise
        return written

    def delete(self, seen: DataRow) -> bool:
        """Delete a row; false if it was written since it was seen."""
        condition, values = _condition(seen)
        try:
            self._client.delete_item(
                TableName=self._table, Key=_key(seen.tenant, seen.sha256), ConditionExpression=condition, **values
            )
        except ClientError as error:
            if condition_failed(error):
                return False
            raise
        return True

    def _query(self, tenant: str) -> "QueryInputTypeDef":
        return {
            "TableName": self._table,
            "KeyConditionExpression": "tenant = :tenant",
            "ExpressionAttributeValues": {":tenant": text(tenant)},
            "ConsistentRead": True,
        }


def _key(tenant: str, sha256: str) -> "dict[str, AttributeValueTypeDef]":
    return {"tenant": text(tenant), "sha256": text(sha256)}


def _condition(seen: DataRow | None) -> tuple[str, dict[str, Any]]:
    if seen is None:
        return "attribute_not_exists(sha256)", {}
    return "revision = :seen", {"ExpressionAttributeValues": {":seen": number(seen.revision)}}


def _attributes(row: DataRow) -> "dict[str, AttributeValueTypeDef]":
    return {
        **_key(row.tenant, row.sha256),
        "size": number(row.size),
        "name": text(row.name),
        "folder": flag(row.folder),
        "state": text(row.state),
        "created_at": number(row.created_at),
        "expires_at": number(-(-row.expires_at // 1000)),
        "needed_until": number(row.needed_until),
        "stored_at": number(row.stored_at),
        "copying_at": number(row.copying_at),
        "deleting_at": number(row.deleting_at),
        "revision": number(row.revision),
        "upload": text(row.upload),
    }


def _row(item: Item) -> DataRow:
    return DataRow(
        tenant=item.text("tenant"),
        sha256=item.text("sha256"),
        size=item.number("size"),
        name=item.text("name"),
        folder=item.flag("folder"),
        state=DataState(item.text("state")),
        created_at=item.number("created_at"),
        expires_at=item.number("expires_at") * 1000,
        needed_until=item.number("needed_until"),
        stored_at=item.number("stored_at"),
        copying_at=item.number("copying_at"),
        deleting_at=item.number("deleting_at"),
        revision=item.number("revision"),
        upload=item.text("upload"),
    )
