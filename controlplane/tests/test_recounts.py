"""An account that does not close is counted anew from the rows."""

from collections.abc import Callable

import boto3
import pytest
from controlplane.tests.world import TENANT, World

from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import AccountOpen
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_events import Account, SessionState


def spoil(world: World, session: Session, update: str) -> None:
    """Change the account of the first bucket behind the control plane's back."""
    boto3.client("dynamodb").update_item(
        TableName=world.grid.settings.chunks_table,
        Key={"bucket": {"S": f"{session.session_id}#0"}, "chunk": {"N": "-1"}},
        UpdateExpression=update,
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


@pytest.mark.parametrize("counter", ["submitted", "completed", "failed", "cancelled"])
def test_a_counter_that_is_wrong_is_mended_and_the_session_ends(world: World, counter: str) -> None:
    session = world.create(2, 1)
    world.record(session, world.finish(session, {0: "CF", 1: "C"}))
    spoil(world, session, f"ADD {counter} :one")
    with pytest.raises(AccountOpen):
        world.grid.lifecycle.end(session.session_id, EndReason.DONE)
    world.events()
    assert world.grid.recounts.recount(session.session_id, 0) is None
    [(name, detail)] = world.events()
    assert name == "Account Mismatch"
    assert detail["after"] == Account(submitted=3, completed=2, failed=1).model_dump()
    assert detail["before"][counter] == detail["after"][counter] + 1
    assert world.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.FAILED


def test_a_chunk_that_finished_and_was_never_counted_is_counted(world: World) -> None:
    session = world.create(1, 1)
    world.finish(session, {0: "C", 1: "C"})
    world.grid.recounts.recount(session.session_id, 0)
    assert world.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.COMPLETED


def test_an_account_that_is_right_stays_and_nobody_is_told(world: World) -> None:
    session = world.create(2, 1)
    world.record(session, world.finish(session, {0: "CF"}))
    world.events()
    before = world.grid.accounts.read(session.session_id, [0])
    world.grid.recounts.recount(session.session_id, 0)
    assert world.grid.accounts.read(session.session_id, [0]) == before
    assert world.events() == []


def test_what_is_counted_while_the_rows_are_read_stays_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = world.create(1, 1)
    world.finish(session, {0: "C"})
    bucket: Callable[..., object] = ChunkStore.bucket
    late = [1]

    def overtaken(*arguments: object) -> object:
        page = bucket(*arguments)
        while late:
            world.record(session, world.finish(session, {late.pop(): "C"}))
        return page

    monkeypatch.setattr(ChunkStore, "bucket", overtaken)
    world.grid.recounts.recount(session.session_id, 0)
    [account] = world.grid.accounts.read(session.session_id, [0])
    assert account.tasks == Account(submitted=2, completed=2)


def test_open_chunks_are_not_counted_as_finished(world: World) -> None:
    session = world.create(1, 1)
    world.claim(session, 0)
    world.grid.recounts.recount(session.session_id, 0)
    with pytest.raises(AccountOpen):
        world.grid.lifecycle.end(session.session_id, EndReason.DONE)


def test_a_long_session_is_counted_in_steps(world: World) -> None:
    session = world.create(1, close=False)
    world.grid.sessions.reserve_buckets(session.session_id, 70)
    steps = []
    bucket: int | None = 0
    while bucket is not None:
        bucket = world.grid.recounts.recount(session.session_id, bucket)
        steps.append(bucket)
    assert steps == [32, 64, None]
    assert world.read(session).tenant == TENANT
