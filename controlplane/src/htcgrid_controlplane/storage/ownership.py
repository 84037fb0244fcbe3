"""Tells the accounts and dead letters of a session from those that an earlier session of the same id left behind."""

from htcgrid_chunks.attributes import Item
from htcgrid_controlplane.rules.session import Session


def owns(session: Session, item: Item) -> bool:
    """Whether a row under a key of this session is its own; see `Session.owns`. Rows of former releases do not name
    their tenant: their expiry tells alone."""
    return item.number("expires_at") == session.expires_at and item.text("tenant", session.tenant) == session.tenant
