"""The partitions table: what was seen of each partition, a row for each minute in which it had work.

    partition, entry       key: its name, and `minute#` with the minute since the epoch, in as many digits each
    attempts, tasks        attempts of chunks that ended in this minute, and tasks that ran in them
    worker_us              how long workers were busy with these, in µs
    in_flight              messages that agents held when the partition was looked at
    expires_at             a week later

Each process that counts outcomes adds what it has gathered once in ten seconds at most, so that no key is hot: a
hundred processes write ten times a second, where a key takes a thousand writes. A sum that gets lost or is added twice
changes a mean, and nothing that is accounted for.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_chunks.attributes import Item, number, text
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.rules.scaling import MINUTE, Work, WorkedMinute

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_PREFIX = "minute#"
_DIGITS = 9
_KEPT = timedelta(days=7)
"""As long as what a partition is used for is likely to be the same, over a weekend too."""


class PartitionStore:
    """Reads and writes what was seen of partitions."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def add_work(self, partition: str, minute: int, work: Work) -> None:
        """Add what workers did to a minute.

        Raises:
            StorageUnavailable: DynamoDB did not take it, for whichever reason.
        """
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(partition, minute),
                UpdateExpression="ADD attempts :attempts, tasks :tasks, worker_us :us SET expires_at = :expires",
                ExpressionAttributeValues={
                    ":attempts": number(work.attempts),
                    ":tasks": number(work.tasks),
                    ":us": number(work.worker_us),
                    ":expires": _expiry(minute),
                },
            )
        except (ClientError, BotoCoreError) as error:
            raise StorageUnavailable(f"the work of partition {partition} was not written: {error}") from error

    def note_in_flight(self, partition: str, minute: int, in_flight: int) -> None:
        """Note how many messages agents hold in a minute."""
        self._client.update_item(
            TableName=self._table,
            Key=_key(partition, minute),
            UpdateExpression="SET in_flight = :in_flight, expires_at = :expires",
            ExpressionAttributeValues={":in_flight": number(in_flight), ":expires": _expiry(minute)},
        )

    def last_minutes(self, partition: str, limit: int) -> list[WorkedMinute]:
        """The last minutes in which a partition had work, newest first."""
        response = self._client.query(
            TableName=self._table,
            KeyConditionExpression="#partition = :partition AND begins_with(entry, :prefix)",
            ExpressionAttributeNames={"#partition": "partition"},
            ExpressionAttributeValues={":partition": text(partition), ":prefix": text(_PREFIX)},
            ScanIndexForward=False,
            Limit=limit,
            ConsistentRead=True,
        )
        return [_minute(Item(item)) for item in response["Items"]]


def minute_of(now: int) -> int:
    """The minute since the epoch in which a moment (ms) lies."""
    return now // int(MINUTE.total_seconds() * 1000)


def _key(partition: str, minute: int) -> "dict[str, AttributeValueTypeDef]":
    return {"partition": text(partition), "entry": text(f"{_PREFIX}{minute:0{_DIGITS}}")}


def _expiry(minute: int) -> "AttributeValueTypeDef":
    return number(int((minute * MINUTE + _KEPT).total_seconds()))


def _minute(item: Item) -> WorkedMinute:
    return WorkedMinute(
        minute=int(item.text("entry").removeprefix(_PREFIX)),
        work=Work(item.number("attempts"), item.number("tasks"), item.number("worker_us")),
        in_flight=item.number("in_flight"),
    )
