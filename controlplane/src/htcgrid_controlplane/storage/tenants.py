"""The tenants table: one row for each tenant that has submitted something.

    open_sessions, tasks                   what its sessions without a verdict use
    submissions_until, bytes_until         up to which moment (µs) its rates are used, see `rules/quotas.py`
    limits                                 map: what its operator set instead of the template's parameters

The row is written in the transaction that creates a session, adds new chunks to it, gives it its verdict or reopens
it, so that what is counted here is the sum of what the sessions' rows say (`counted_tasks`), whatever dies in between.
It is never written for a chunk.
"""

import random
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError
from pydantic import ValidationError

from htcgrid_chunks.attributes import Item, number, text
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.rules.quotas import (
    Demand,
    Share,
    TenantLimits,
    Usage,
    bytes_share,
    check_demand,
    submissions_share,
)
from htcgrid_controlplane.settings import BadSettings
from htcgrid_controlplane.storage.conditional import condition_failed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 12


class Tenant(NamedTuple):
    """What a tenant uses and may use."""

    usage: Usage
    limits: TenantLimits


class TenantStore:
    """Reads and writes rows of the tenants table."""

    def __init__(self, client: "DynamoDBClient", table: str, limits: TenantLimits) -> None:
        """`limits` are those of tenants whose row has none of its own."""
        self._client = client
        self._table = table
        self._limits = limits

    def read(self, tenant: str) -> Tenant:
        """The row, as last written.

        Raises:
            BadSettings: the tenant's own limits are not legal.
        """
        response = self._client.get_item(TableName=self._table, Key={"tenant": text(tenant)}, ConsistentRead=True)
        item = Item(response.get("Item", {}))
        usage = Usage(
            open_sessions=item.number("open_sessions"),
            tasks=item.number("tasks"),
            submissions_until=item.number("submissions_until"),
            bytes_until=item.number("bytes_until"),
        )
        try:
            limits = TenantLimits.model_validate({**self._limits.model_dump(), **item.scalar_map("limits")})
        except ValidationError as error:
            fields = ", ".join(str(fault["loc"][0]) for fault in error.errors(include_input=False, include_url=False))
            raise BadSettings(f"The limits in the row of tenant {tenant} are not legal: {fields}.") from error
        return Tenant(usage, limits)

    def take(
        self, tenant: str, demand: Demand, now: int, beside: "Sequence[TransactWriteItemTypeDef]" = ()
    ) -> int | None:
        """Take a tenant's share, together with other writes or not at all. `now` is in ms. Gives the place of the
        write in `beside` whose condition failed, or none if all was written.

        Raises:
            QuotaExceeded, NotAllowed: the tenant may not have so much.
            StorageUnavailable: the rows are being written by too many at once.
        """
        for retry in range(1, _TRIES + 1):
            row = self.read(tenant)
            check_demand(row.usage, demand, row.limits, now)
            items = [*beside, self._taken(tenant, row, demand, now)]
            try:
                self._client.transact_write_items(TransactItems=items)
            except ClientError as error:
                for place in range(len(beside)):
                    if condition_failed(error, place):
                        return place
                if "CancellationReasons" not in error.response:
                    raise
                time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
            else:
                return None
        raise StorageUnavailable(f"the row of tenant {tenant} is being written by too many at once")

    def given_back(self, tenant: str, tasks: int) -> "TransactWriteItemTypeDef":
        """The write that gives back what one session took, for a transaction. Its condition fails where the row does
        not count so much, since it was deleted or reset."""
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"tenant": text(tenant)},
                "UpdateExpression": "ADD open_sessions :fewer, tasks :less",
                "ConditionExpression": "open_sessions >= :one AND tasks >= :tasks",
                "ExpressionAttributeValues": {
                    ":fewer": number(-1),
                    ":less": number(-tasks),
                    ":one": number(1),
                    ":tasks": number(tasks),
                },
            }
        }

    def _taken(self, tenant: str, row: Tenant, demand: Demand, now: int) -> "TransactWriteItemTypeDef":
        limits = row.limits
        adds = ["open_sessions :sessions", "tasks :tasks"]
        sets: list[str] = []
        conditions: list[str] = []
        values: dict[str, AttributeValueTypeDef] = {
            ":sessions": number(demand.sessions),
            ":tasks": number(demand.tasks),
        }
        if demand.sessions:
            conditions.append("(attribute_not_exists(open_sessions) OR open_sessions <= :most_sessions)")
            values[":most_sessions"] = number(limits.open_sessions - demand.sessions)
        if demand.tasks:
            conditions.append("(attribute_not_exists(tasks) OR tasks <= :most_tasks)")
            values[":most_tasks"] = number(limits.tasks - demand.tasks)
        for name, share in (
            ("submissions_until", submissions_share(row.usage, demand, limits)),
            ("bytes_until", bytes_share(row.usage, demand, limits)),
        ):
            if share.cost:
                self._take_share(name, share, now * 1000, (adds, sets, conditions), values)
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"tenant": text(tenant)},
                "UpdateExpression": " ".join(
                    [f"SET {', '.join(sets)}" if sets else "", f"ADD {', '.join(adds)}"]
                ).strip(),
                "ConditionExpression": " AND ".join(conditions),
                "ExpressionAttributeValues": values,
            }
        }

    @staticmethod
    def _take_share(
        name: str,
        share: Share,
        now: int,
        parts: tuple[list[str], list[str], list[str]],
        values: "dict[str, AttributeValueTypeDef]",
    ) -> None:
        adds, sets, conditions = parts
        if share.ahead(now):
            # The moment only grows, so it is ahead of now whoever moves it meanwhile: no need to have read its last.
            adds.append(f"{name} :cost_of_{name}")
            conditions.append(f"{name} <= :latest_{name}")
            values[f":cost_of_{name}"] = number(share.cost)
            values[f":latest_{name}"] = number(now + share.burst - share.cost)
        else:
            sets.append(f"{name} = :then_{name}")
            values[f":then_{name}"] = number(now + share.cost)
            if share.until:
                conditions.append(f"{name} = :seen_{name}")
                values[f":seen_{name}"] = number(share.until)
            else:
                conditions.append(f"attribute_not_exists({name})")
