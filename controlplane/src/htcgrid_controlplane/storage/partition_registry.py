"""The registry of partitions: rows of the partitions table under one key, which every function reads now and then.

    partition, entry       key: `#registry`, and the partition's name
    stack                  who registered it
    queue_urls             JSON: priority to the URL of its task queue
    draining               since when (ms) it is being removed; there only then

register   no row, or one of the same stack    → stack, queue_urls; no draining
drain      a row of this stack                 → draining, unless it is there
remove     none                                → no row
"""

import json
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import Item, number, text
from htcgrid_controlplane.errors import PartitionTaken
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_events import Priority

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_REGISTRY: Final = "#registry"
"""No partition has this name."""


class PartitionRegistry:
    """Reads and writes which partitions there are."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def partitions(self) -> list[Partition]:
        """All partitions, by name. One page of a query holds some thousand."""
        response = self._client.query(
            TableName=self._table,
            KeyConditionExpression="#partition = :registry",
            ExpressionAttributeNames={"#partition": "partition"},
            ExpressionAttributeValues={":registry": text(_REGISTRY)},
            ConsistentRead=True,
        )
        return [_partition(Item(row)) for row in response["Items"]]

    def register(self, partition: Partition) -> None:
        """Write a partition, or what has changed of it.

        Raises:
            PartitionTaken: another stack has a partition of this name.
        """
        try:
            self._client.put_item(
                TableName=self._table,
                Item={
                    **_key(partition.name),
                    "stack": text(partition.stack),
                    "queue_urls": text(json.dumps(partition.queue_urls)),
                },
                ConditionExpression="attribute_not_exists(entry) OR stack = :stack",
                ExpressionAttributeValues={":stack": text(partition.stack)},
            )
        except ClientError as error:
            if condition_failed(error):
                raise PartitionTaken(
                    f"Another stack has a partition {partition.name!r}: choose another name."
                ) from error
            raise

    def drain(self, name: str, stack: str, now: int) -> int | None:
        """Have a partition take no more sessions. Gives since when (ms) that is so; none if the stack has no partition
        of this name."""
        try:
            response = self._client.update_item(
                TableName=self._table,
                Key=_key(name),
                UpdateExpression="SET draining = if_not_exists(draining, :now)",
                ConditionExpression="stack = :stack",
                ExpressionAttributeValues={":now": number(now), ":stack": text(stack)},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if condition_failed(error):
                return None
            raise
        return Item(response["Attributes"]).number("draining")

    def remove(self, name: str) -> None:
        """Forget a partition."""
        self._client.delete_item(TableName=self._table, Key=_key(name))


def _key(name: str) -> "dict[str, AttributeValueTypeDef]":
    return {"partition": text(_REGISTRY), "entry": text(name)}


def _partition(row: Item) -> Partition:
    urls = json.loads(row.text("queue_urls"))
    return Partition(
        name=row.text("entry"),
        stack=row.text("stack"),
        queue_urls={Priority(priority): url for priority, url in urls.items()},
        draining="draining" in row,
    )
