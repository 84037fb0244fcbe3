"""The connections table: who may be pushed to, and over which WebSocket connection.

A subscriber outlives its connections: it opens each with a ticket of its own, and the sessions that name it as their
subscriber follow it to the new connection.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import (
    Item,
    number,
    text,
)
from htcgrid_controlplane.errors import SessionConflict, TicketRefused
from htcgrid_controlplane.storage.batch_get import batch_get
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_events import PushTicket

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

TICKET_TIME = timedelta(seconds=60)
"""How long a ticket is good for one connection."""
_SUBSCRIBER_TIME = timedelta(days=7)
_TICKET = re.compile(r"[0-9a-f]{32}\.[A-Za-z0-9_-]{32}")


class SubscriberStore:
    """Reads and writes rows of the connections table."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def issue_ticket(self, subscriber_id: str, tenant: str, now: int) -> PushTicket:
        """A ticket with which this tenant may open one connection as this subscriber. `now` is in ms.

        Only a hash of it is kept.

        Raises:
            SessionConflict: the subscriber belongs to another tenant.
        """
        secret = secrets.token_urlsafe(24)
        ticket_expires_at = now + int(TICKET_TIME.total_seconds() * 1000)
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"subscriber_id": text(subscriber_id)},
                UpdateExpression="SET tenant = :tenant, ticket_hash = :hash, ticket_expires_at = :until, "
                "expires_at = :expires",
                ConditionExpression="attribute_not_exists(tenant) OR tenant = :tenant",
                ExpressionAttributeValues={
                    ":tenant": text(tenant),
                    ":hash": text(_hash(secret)),
                    ":until": number(ticket_expires_at),
                    ":expires": number(now // 1000 + int(_SUBSCRIBER_TIME.total_seconds())),
                },
            )
        except ClientError as error:
            if condition_failed(error):
                # As for a session: whose it is, or was, is nobody else's business.
                raise SessionConflict(
                    f"The id {subscriber_id} has been used for a subscriber before: choose a new one."
                ) from error
            raise
        return PushTicket(subscriber_id=subscriber_id, ticket=f"{subscriber_id}.{secret}", expires_at=ticket_expires_at)

    def connect(self, ticket: str, connection_id: str, now: int) -> None:
        """Redeem a ticket for a connection. `now` is in ms.

        Raises:
            TicketRefused: it is unknown, used or past its time.
        """
        # Anybody may come with anything: only what looks like a ticket costs a request.
        if not _TICKET.fullmatch(ticket):
            raise TicketRefused("A push connection needs a ticket from PUT /subscribers/{subscriber_id}.")
        subscriber_id, _, secret = ticket.partition(".")
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"subscriber_id": text(subscriber_id)},
                UpdateExpression="SET connection_id = :connection REMOVE ticket_hash, ticket_expires_at",
                ConditionExpression="ticket_hash = :hash AND ticket_expires_at >= :now",
                ExpressionAttributeValues={
                    ":connection": text(connection_id),
                    ":hash": text(_hash(secret)),
                    ":now": number(now),
                },
            )
        except ClientError as error:
            if condition_failed(error):
                raise TicketRefused("The push ticket is unknown, used or past its time: ask for a new one.") from error
            raise

    def belongs_to(self, subscriber_id: str, tenant: str) -> bool:
        """Whether this tenant has such a subscriber."""
        response = self._client.get_item(
            TableName=self._table, Key={"subscriber_id": text(subscriber_id)}, ConsistentRead=True
        )
        return "Item" in response and Item(response["Item"]).text("tenant") == tenant

    def connections(self, tenant: str, subscriber_ids: Iterable[str]) -> dict[str, str]:
        """The connection of each of these subscribers of a tenant that has one. A subscriber's row expires while
        sessions still name it, and its id may be another tenant's then."""
        keys = [{"subscriber_id": text(subscriber_id)} for subscriber_id in sorted(set(subscriber_ids))]
        rows = batch_get(self._client, self._table, keys, "subscriber_id, tenant, connection_id")
        return {
            row.text("subscriber_id"): row.text("connection_id")
            for row in rows
            if "connection_id" in row and row.text("tenant") == tenant
        }

    def forget(self, subscriber_id: str, connection_id: str) -> None:
        """Note that a connection is gone, unless the subscriber has opened another meanwhile."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"subscriber_id": text(subscriber_id)},
                UpdateExpression="REMOVE connection_id",
                ConditionExpression="connection_id = :connection",
                ExpressionAttributeValues={":connection": text(connection_id)},
            )
        except ClientError as error:
            if not condition_failed(error):
                raise


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
