"""An account that does not close is counted anew from the rows."""

from collections.abc import Callable

import boto3
import pytest
from tests.support.control_plane_harness import TENANT, Harness

from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import AccountOpen
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import Account, SessionState


def spoil(harness: Harness, session: Session, update: str) -> None:
    """Change the account of the first bucket behind the control plane's back."""
    boto3.client("dynamodb").update_item(
        TableName=harness.grid.settings.chunks_table,
        Key={"bucket": {"S": f"{session.session_id}#0"}, "chunk": {"N": "-1"}},
        UpdateExpression=update,
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


@pytest.mark.parametrize("counter", ["submitted", "completed", "failed", "cancelled"])
def test_a_counter_that_is_wrong_is_mended_and_the_session_ends(harness: Harness, counter: str) -> None:
    session = harness.create(2, 1)
    harness.record(session, harness.finish(session, {0: "CF", 1: "C"}))
    spoil(harness, session, f"ADD {counter} :one")
    with pytest.raises(AccountOpen):
        harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    harness.events()
    assert harness.grid.recounts.recount(session.session_id, 0) is None
    [(name, detail)] = harness.events()
    assert name == "Account Mismatch"
    assert detail["after"] == Account(submitted=3, completed=2, failed=1).model_dump()
    assert detail["before"][counter] == detail["after"][counter] + 1
    assert harness.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.FAILED


def test_a_chunk_that_finished_and_was_never_counted_is_counted(harness: Harness) -> None:
    session = harness.create(1, 1)
    harness.finish(session, {0: "C", 1: "C"})
    harness.grid.recounts.recount(session.session_id, 0)
    assert harness.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.COMPLETED


def test_an_account_that_is_right_stays_and_nobody_is_told(harness: Harness) -> None:
    session = harness.create(2, 1)
    harness.record(session, harness.finish(session, {0: "CF"}))
    harness.events()
    before = harness.grid.accounts.read(session, [0])
    harness.grid.recounts.recount(session.session_id, 0)
    assert harness.grid.accounts.read(session, [0]) == before
    assert harness.events() == []


def test_what_is_counted_while_the_rows_are_read_stays_counted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = harness.create(1, 1)
    harness.finish(session, {0: "C"})
    bucket: Callable[..., object] = ChunkStore.bucket
    late = [1]

    def overtaken(*arguments: object) -> object:
        page = bucket(*arguments)
        while late:
            harness.record(session, harness.finish(session, {late.pop(): "C"}))
        return page

    monkeypatch.setattr(ChunkStore, "bucket", overtaken)
    harness.grid.recounts.recount(session.session_id, 0)
    [account] = harness.grid.accounts.read(session, [0])
    assert account.tasks == Account(submitted=2, completed=2)


def test_open_chunks_are_not_counted_as_finished(harness: Harness) -> None:
    session = harness.create(1, 1)
    harness.claim(session, 0)
    harness.grid.recounts.recount(session.session_id, 0)
    with pytest.raises(AccountOpen):
        harness.grid.lifecycle.end(session.session_id, EndReason.DONE)


def test_a_long_session_is_counted_in_steps(harness: Harness) -> None:
    session = harness.create(1, close=False)
    harness.grid.sessions.reserve_buckets(session.session_id, 70)
    steps = []
    bucket: int | None = 0
    while bucket is not None:
        bucket = harness.grid.recounts.recount(session.session_id, bucket)
        steps.append(bucket)
    assert steps == [32, 64, None]
    assert harness.read(session).tenant == TENANT
