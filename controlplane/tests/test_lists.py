"""Lists of sessions, and cancelling many of them."""

import pytest
from controlplane.tests.world import TENANT, World

from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services import lifecycle
from htcgrid_events import Account, CreateSession, SessionOptions, SessionState, new_id


def listed(world: World, tenant: str, state: SessionState | None = None) -> list[str]:
    found: list[str] = []
    before: str | None = None
    while True:
        page = world.grid.queries.sessions_of(tenant, state, before)
        found += [summary.session_id for summary in page.sessions]
        before = page.next_before
        if before is None:
            return found


def create(world: World, tenant: str) -> Session:
    world.clock.advance(1)
    return world.grid.submissions.create(tenant, new_id(), CreateSession(options=SessionOptions()))


@pytest.fixture
def tenant() -> str:
    return f"tenant-{new_id()}"


def test_a_tenant_sees_its_sessions_newest_first_page_by_page_and_no_others(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htcgrid_controlplane.services.queries._PAGE_SESSIONS", 2)
    mine = [create(world, tenant).session_id for _ in range(5)]
    create(world, f"{tenant}-other")
    assert listed(world, tenant) == mine[::-1]


def test_sessions_made_in_the_same_millisecond_are_all_listed(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htcgrid_controlplane.services.queries._PAGE_SESSIONS", 1)
    request = CreateSession(options=SessionOptions())
    mine = {world.grid.submissions.create(tenant, new_id(), request).session_id for _ in range(4)}
    assert set(listed(world, tenant)) == mine


def test_a_list_can_be_of_one_state_and_shows_verdict_and_account(world: World) -> None:
    world.clock.advance(1)
    session = world.create(1)
    world.record(session, world.finish(session, {0: "F"}))
    world.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert session.session_id in listed(world, TENANT, SessionState.FAILED)
    assert session.session_id not in listed(world, TENANT, SessionState.RUNNING)
    summary = world.grid.queries.sessions_of(TENANT, None, None).sessions[0]
    assert (summary.session_id, summary.state) == (session.session_id, SessionState.FAILED)
    assert summary.account == Account(submitted=1, failed=1)
    assert summary.ended_at == world.clock()


def test_several_sessions_are_cancelled_and_each_is_accounted_for(world: World, tenant: str) -> None:
    running, other = create(world, tenant), create(world, f"{tenant}-other")
    ended = create(world, tenant)
    world.grid.lifecycle.cancel(tenant, ended.session_id)
    world.grid.lifecycle.end(ended.session_id, EndReason.CANCELLED)
    nobody = new_id()
    answer = world.grid.lifecycle.cancel_many(tenant, [running.session_id, ended.session_id, other.session_id, nobody])
    assert answer.stopping == (running.session_id,)
    assert answer.ended == (ended.session_id,)
    assert answer.unknown == (other.session_id, nobody)
    assert world.read(running).stop_reason is EndReason.CANCELLED
    assert world.read(other).stop_reason is None


def test_all_open_sessions_of_a_tenant_are_cancelled_some_at_a_time(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "MAX_CANCELLED", 2)
    mine = {create(world, tenant).session_id for _ in range(5)}
    other = create(world, f"{tenant}-other")
    stopped: list[str] = []
    while stopping := world.grid.lifecycle.cancel_many(tenant, None).stopping:
        assert len(stopping) <= 2
        stopped += stopping
    assert sorted(stopped) == sorted(mine)
    assert world.read(other).stop_reason is None


def test_chunks_of_another_tenants_session_are_not_shown(world: World) -> None:
    session = world.create(1)
    with pytest.raises(SessionNotFound):
        world.grid.queries.chunk_page("tenant-2", session.session_id, 0, -1)
