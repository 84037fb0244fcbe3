"""A session's row: how its attributes are written and read."""

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from htcgrid_chunks.attributes import (
    Item,
    number,
    text,
)
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.sweep_schedule import (
    next_sweep_at,
    sweep_shard_of,
)
from htcgrid_events import Account, SessionOptions, SessionState, SessionSummary, Totals

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


_OUTLIVES_ROWS = timedelta(days=14)
"""By how much the row of a session expires after the other rows of it. DynamoDB deletes rows within a few days of their
expiry, in no order ("Using time to live in DynamoDB"): an id is free again only when nothing is left under it."""


class Listed(NamedTuple):
    """A session as the index shows it."""

    summary: SessionSummary
    stopping: bool
    """Whether it has been told to stop."""


def row_of(session: Session) -> "dict[str, AttributeValueTypeDef]":
    """The row of a new session."""
    row: dict[str, AttributeValueTypeDef] = {
        "session_id": text(session.session_id),
        "tenant": text(session.tenant),
        "state": text(session.state),
        "options": text(session.options.model_dump_json()),
        "created_at": number(session.created_at),
        "listed": text(f"{session.created_at:013}-{session.session_id}"),
        "deadline_at": number(session.deadline_at),
        "buckets": number(session.buckets),
        "rows_expire_at": number(session.expires_at),
        "expires_at": number(session.expires_at + int(_OUTLIVES_ROWS.total_seconds())),
        "open_shard": number(sweep_shard_of(session.session_id)),
        "sweep_at": number(next_sweep_at(session.created_at)),
    }
    if session.counted_tasks is not None:
        row |= {"counted_tasks": number(session.counted_tasks), "counted_chunks": number(session.counted_chunks)}
    if session.totals is not None:
        row |= {"total_chunks": number(session.totals.chunks), "total_tasks": number(session.totals.tasks)}
    if session.subscribers:
        row["subscribers"] = {"SS": sorted(session.subscribers)}
    return row


def session_of(item: Item) -> Session:
    """The session that a row describes."""
    totals = (
        Totals(chunks=item.number("total_chunks"), tasks=item.number("total_tasks")) if "total_chunks" in item else None
    )
    ended = "ended_at" in item
    return Session(
        session_id=item.text("session_id"),
        tenant=item.text("tenant"),
        options=SessionOptions.model_validate_json(item.text("options")),
        created_at=item.number("created_at"),
        deadline_at=item.number("deadline_at"),
        state=SessionState(item.text("state")),
        totals=totals,
        buckets=item.number("buckets"),
        full_buckets=item.numbers("full_buckets"),
        stop_reason=EndReason(item.text("stop_reason")) if "stop_reason" in item else None,
        paused="paused" in item,
        failures=item.number("failures"),
        task_token=item.text("task_token"),
        watched="lifecycle_execution" in item,
        redrives=item.number("redrives"),
        counted_tasks=item.number("counted_tasks") if "counted_tasks" in item else None,
        counted_chunks=item.number("counted_chunks"),
        subscribers=item.texts("subscribers"),
        account=_counted(item) if ended else None,
        function_digests=tuple(item.text("function_digests").split()) if ended else (),
        ended_at=item.number("ended_at") if ended else None,
        expires_at=item.number("rows_expire_at", item.number("expires_at")),
    )


def listed_of(item: Item) -> Listed:
    """A session as the index by tenant shows it."""
    ended = "ended_at" in item
    summary = SessionSummary(
        session_id=item.text("session_id"),
        state=SessionState(item.text("state")),
        created_at=item.number("created_at"),
        deadline_at=item.number("deadline_at"),
        ended_at=item.number("ended_at") if ended else None,
        account=_counted(item) if ended else None,
    )
    return Listed(summary, stopping="stop_reason" in item)


def _counted(item: Item) -> Account:
    return Account(
        submitted=item.number("submitted"),
        completed=item.number("completed"),
        failed=item.number("failed"),
        cancelled=item.number("cancelled"),
    )
