"""Push tickets: good once, soon, and for their tenant alone."""

import boto3
import pytest
from tests.support.control_plane_harness import START, TENANT, create_table

from htcgrid_controlplane.errors import SessionConflict, TicketRefused
from htcgrid_controlplane.storage.subscribers import (
    TICKET_TIME,
    SubscriberStore,
)
from htcgrid_events import new_id

LIFE = int(TICKET_TIME.total_seconds() * 1000)


@pytest.fixture
def store(empty_dynamodb: None) -> SubscriberStore:
    return SubscriberStore(boto3.client("dynamodb"), create_table("ConnectionsTable", "connections"))


def test_a_ticket_opens_one_connection(store: SubscriberStore) -> None:
    me = new_id()
    ticket = store.issue_ticket(me, TENANT, START)
    assert ticket.expires_at == START + LIFE
    assert store.connections(TENANT, [me]) == {}
    store.connect(ticket.ticket, "connection-1", START + LIFE)
    assert store.connections(TENANT, [me, new_id()]) == {me: "connection-1"}
    with pytest.raises(TicketRefused):
        store.connect(ticket.ticket, "connection-2", START + 1)
    assert store.connections(TENANT, [me]) == {me: "connection-1"}


def test_a_ticket_expires(store: SubscriberStore) -> None:
    ticket = store.issue_ticket(new_id(), TENANT, START)
    with pytest.raises(TicketRefused):
        store.connect(ticket.ticket, "connection-1", START + LIFE + 1)


def test_a_newer_ticket_replaces_an_older_one(store: SubscriberStore) -> None:
    me = new_id()
    older = store.issue_ticket(me, TENANT, START)
    newer = store.issue_ticket(me, TENANT, START)
    with pytest.raises(TicketRefused):
        store.connect(older.ticket, "connection-1", START)
    store.connect(newer.ticket, "connection-2", START)


@pytest.mark.parametrize("ticket", ["", ".", "nobody", "nobody.", ".secret", f"{'0' * 32}.guess"])
def test_what_is_no_ticket_is_refused(store: SubscriberStore, ticket: str) -> None:
    store.issue_ticket("0" * 32, TENANT, START)
    with pytest.raises(TicketRefused):
        store.connect(ticket, "connection-1", START)


@pytest.mark.parametrize("ticket", ["", "x" * 10_000, f"{'0' * 32}.short", f"{'0' * 32}.{'a' * 32}\n"])
def test_what_does_not_look_like_a_ticket_costs_no_request(ticket: str) -> None:
    with pytest.raises(TicketRefused):
        SubscriberStore(None, "connections").connect(ticket, "connection-1", START)  # type: ignore[arg-type]


def test_a_subscriber_belongs_to_one_tenant(store: SubscriberStore) -> None:
    me = new_id()
    ticket = store.issue_ticket(me, TENANT, START)
    with pytest.raises(SessionConflict, match=f"The id {me} has been used for a subscriber before: choose a new one."):
        store.issue_ticket(me, "thief", START)
    assert store.belongs_to(me, TENANT)
    assert not store.belongs_to(me, "thief")
    assert not store.belongs_to(new_id(), TENANT)
    store.connect(ticket.ticket, "connection-1", START)


def test_the_table_holds_no_ticket(store: SubscriberStore) -> None:
    ticket = store.issue_ticket(new_id(), TENANT, START)
    secret = ticket.ticket.partition(".")[2]
    row = boto3.client("dynamodb").get_item(
        TableName="connections", Key={"subscriber_id": {"S": ticket.subscriber_id}}, ConsistentRead=True
    )["Item"]
    assert "ticket_hash" in row
    assert secret not in str(row)


def test_a_connection_that_is_gone_is_forgotten_unless_there_is_a_newer_one(store: SubscriberStore) -> None:
    me = new_id()
    store.connect(store.issue_ticket(me, TENANT, START).ticket, "old", START)
    store.connect(store.issue_ticket(me, TENANT, START).ticket, "new", START)
    store.forget(me, "old")
    assert store.connections(TENANT, [me]) == {me: "new"}
    store.forget(me, "new")
    assert store.connections(TENANT, [me]) == {}
    store.forget(me, "new")


def test_nobody_has_no_connections(store: SubscriberStore) -> None:
    assert store.connections(TENANT, []) == {}
