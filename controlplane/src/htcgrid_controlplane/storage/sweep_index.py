"""The index of open sessions, and the writes of a sweep to their rows.

index `open_sessions`    open_shard, sweep_at    keys alone; rows without a verdict

take       sweep_at as seen, no verdict     → sweep_at = next time
go_on      no verdict                       → sweep_bucket, sweep_at = at once
done       no verdict                       → swept_at, no sweep_bucket
abandon    lifecycle_execution as seen      → no lifecycle_execution
drop       no verdict                       → not in the index
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import (
    Item,
    number,
    text,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.conditional import condition_failed, retry_transaction_conflicts
from htcgrid_controlplane.storage.session_rows import session_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef, UpdateItemInputTypeDef

INDEX = "open_sessions"


@dataclass(frozen=True)
class Due:
    """An entry of the index: which session is to be swept, and since when (ms)."""

    session_id: str
    sweep_at: int


@dataclass(frozen=True)
class Taken:
    """A session that is swept, as its row was when that began."""

    session: Session
    execution: str
    """The execution of the lifecycle workflow that watches it; empty if none ever did."""
    swept_at: int
    """When (ms) its rows were last looked at; 0 for never."""
    bucket: int
    """Where to begin: an earlier sweep has come so far."""


class SweepStore:
    """Finds the sessions that are to be swept."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def due(self, shard: int, before: int, after: Due | None, limit: int) -> tuple[list[Due], bool]:
        """Sessions of a shard that were to be swept at `before` (ms) or earlier, behind `after`, longest due first;
        and whether there may be more."""
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "IndexName": INDEX,
            "KeyConditionExpression": "open_shard = :shard AND sweep_at <= :before",
            "ExpressionAttributeValues": {":shard": number(shard), ":before": number(before)},
            "Limit": limit,
        }
        if after:
            query["ExclusiveStartKey"] = {
                "session_id": text(after.session_id),
                "open_shard": number(shard),
                "sweep_at": number(after.sweep_at),
            }
        response = self._client.query(**query)
        items = (Item(row) for row in response["Items"])
        found = [Due(item.text("session_id"), item.number("sweep_at")) for item in items]
        return found, "LastEvaluatedKey" in response

    def take(self, due: Due, next_at: int) -> Taken | None:
        """Put off the next sweep of a session to `next_at` (ms), and give the session to be swept now; none if
        another run sweeps it or it has its verdict."""
        row = self._change(
            due.session_id,
            "SET sweep_at = :next",
            "attribute_exists(open_shard) AND sweep_at = :seen",
            {":next": number(next_at), ":seen": number(due.sweep_at)},
        )
        if row is None:
            return None
        return Taken(
            session=session_of(row),
            execution=row.text("lifecycle_execution"),
            swept_at=row.number("swept_at"),
            bucket=row.number("sweep_bucket"),
        )

    def go_on(self, session_id: str, bucket: int, at: int) -> None:
        """Note that a sweep has come to this bucket, and that it is to go on `at` (ms)."""
        self._change(
            session_id,
            "SET sweep_bucket = :bucket, sweep_at = :at",
            "attribute_exists(open_shard)",
            {":bucket": number(bucket), ":at": number(at)},
        )

    def done(self, session_id: str, now: int) -> None:
        """Note that all rows have been looked at, at `now` (ms)."""
        self._change(
            session_id,
            "SET swept_at = :now REMOVE sweep_bucket",
            "attribute_exists(open_shard)",
            {":now": number(now)},
        )

    def drop(self, session_id: str) -> None:
        """Take a session that is past its time out of the index: what is left of it expires."""
        self._change(session_id, "REMOVE open_shard, sweep_at, sweep_bucket", "attribute_exists(open_shard)", {})

    def abandon(self, session_id: str, execution: str) -> bool:
        """Let another execution adopt a session whose own is over; false if another has done so already."""
        row = self._change(
            session_id,
            "REMOVE lifecycle_execution",
            "lifecycle_execution = :over",
            {":over": text(execution)},
        )
        return row is not None

    def _change(
        self, session_id: str, update: str, condition: str, values: "Mapping[str, AttributeValueTypeDef]"
    ) -> Item | None:
        request: UpdateItemInputTypeDef = {
            "TableName": self._table,
            "Key": {"session_id": text(session_id)},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ReturnValues": "ALL_NEW",
        }
        if values:
            request["ExpressionAttributeValues"] = values
        try:
            response = retry_transaction_conflicts(lambda: self._client.update_item(**request))
        except ClientError as error:
            if condition_failed(error):
                return None
            raise
        return Item(response["Attributes"])
