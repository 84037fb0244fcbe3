"""Lists of sessions, and cancelling many of them."""

import pytest
from tests.support.control_plane_harness import TENANT, Harness

from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services import lifecycle
from htcgrid_events import Account, CreateSession, SessionOptions, SessionState, SessionSummary, new_id


def summaries(harness: Harness, tenant: str, state: SessionState | None = None) -> list[SessionSummary]:
    found: list[SessionSummary] = []
    before: str | None = None
    while True:
        page = harness.grid.queries.sessions_of(tenant, state, before)
        found += page.sessions
        before = page.next_before
        if before is None:
            return found


def listed(harness: Harness, tenant: str, state: SessionState | None = None) -> list[str]:
    return [summary.session_id for summary in summaries(harness, tenant, state)]


def create(harness: Harness, tenant: str) -> Session:
    harness.clock.advance(1)
    return harness.grid.submissions.create(tenant, new_id(), CreateSession(options=SessionOptions()))


@pytest.fixture
def tenant() -> str:
    return f"tenant-{new_id()}"


def test_a_tenant_sees_its_sessions_newest_first_page_by_page_and_no_others(
    harness: Harness, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htcgrid_controlplane.services.queries._PAGE_SESSIONS", 2)
    mine = [create(harness, tenant).session_id for _ in range(5)]
    create(harness, f"{tenant}-other")
    assert listed(harness, tenant) == mine[::-1]


def test_sessions_made_in_the_same_millisecond_are_all_listed(
    harness: Harness, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htcgrid_controlplane.services.queries._PAGE_SESSIONS", 1)
    request = CreateSession(options=SessionOptions())
    mine = {harness.grid.submissions.create(tenant, new_id(), request).session_id for _ in range(4)}
    assert set(listed(harness, tenant)) == mine


def test_a_list_can_be_of_one_state_and_shows_verdict_and_account(harness: Harness) -> None:
    session = harness.create(1)
    harness.record(session, harness.finish(session, {0: "F"}))
    harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert session.session_id in listed(harness, TENANT, SessionState.FAILED)
    assert session.session_id not in listed(harness, TENANT, SessionState.RUNNING)
    (summary,) = [each for each in summaries(harness, TENANT) if each.session_id == session.session_id]
    assert summary.state is SessionState.FAILED
    assert summary.account == Account(submitted=1, failed=1)
    assert summary.ended_at == harness.clock()


def test_several_sessions_are_cancelled_and_each_is_accounted_for(harness: Harness, tenant: str) -> None:
    running, other = create(harness, tenant), create(harness, f"{tenant}-other")
    ended = create(harness, tenant)
    harness.grid.lifecycle.cancel(tenant, ended.session_id)
    harness.grid.lifecycle.end(ended.session_id, EndReason.CANCELLED)
    nobody = new_id()
    answer = harness.grid.lifecycle.cancel_many(
        tenant, [running.session_id, ended.session_id, other.session_id, nobody]
    )
    assert answer.stopping == (running.session_id,)
    assert answer.ended == (ended.session_id,)
    assert answer.unknown == (other.session_id, nobody)
    assert harness.read(running).stop_reason is EndReason.CANCELLED
    assert harness.read(other).stop_reason is None


def test_all_open_sessions_of_a_tenant_are_cancelled_some_at_a_time(
    harness: Harness, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "MAX_CANCELLED", 2)
    mine = {create(harness, tenant).session_id for _ in range(5)}
    other = create(harness, f"{tenant}-other")
    stopped: list[str] = []
    while stopping := harness.grid.lifecycle.cancel_many(tenant, None).stopping:
        assert len(stopping) <= 2
        stopped += stopping
    assert sorted(stopped) == sorted(mine)
    assert harness.read(other).stop_reason is None


def test_chunks_of_another_tenants_session_are_not_shown(harness: Harness) -> None:
    session = harness.create(1)
    with pytest.raises(SessionNotFound):
        harness.grid.queries.chunk_page("tenant-2", session.session_id, 0, -1)
