"""What tenants may use: taken once for what is new, refused beyond the limits, and given back with the verdict."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from controlplane.tests.test_dead_letters import fail, line, record
from tests.support.control_plane_harness import LIMITS, START, Harness, inputs

from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import NotAllowed, QuotaExceeded, SessionConflict
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.quotas import Demand, Usage, submissions_share
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.settings import BadSettings
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_events import (
    MAX_CHUNKS_AHEAD,
    AddChunks,
    CreateSession,
    Priority,
    RedriveTasks,
    SessionOptions,
    SessionState,
    Totals,
    new_id,
)


class Died(Exception):
    """What a process that dies says."""


@dataclass
class Tenant:
    """A tenant of a test's own."""

    harness: Harness
    name: str

    def may(self, **limits: int | bool) -> None:
        """Set limits of its own."""
        attributes = {
            name: {"BOOL": value} if isinstance(value, bool) else {"N": str(value)} for name, value in limits.items()
        }
        boto3.client("dynamodb").update_item(
            TableName=self.harness.grid.settings.tenants_table,
            Key={"tenant": {"S": self.name}},
            UpdateExpression="SET limits = :limits",
            ExpressionAttributeValues={":limits": {"M": attributes}},
        )

    def create(self, *sizes: int, session_id: str = "", close: bool = True, **options: Any) -> Session:
        totals = Totals(chunks=len(sizes), tasks=sum(sizes)) if close else None
        request = CreateSession(options=SessionOptions(**options), chunks=inputs(*sizes), totals=totals)
        return self.harness.grid.submissions.create(self.name, session_id or new_id(), request)

    def add(self, session: Session, *sizes: int, first_chunk: int) -> Session:
        request = AddChunks(chunks=inputs(*sizes, first_chunk=first_chunk))
        return self.harness.grid.submissions.add(self.name, session.session_id, request)

    def end(self, session: Session, reason: EndReason) -> SessionState:
        following: int | None = 0
        while following is not None:
            following = self.harness.grid.lifecycle.settle(session.session_id, reason, following)
        return self.harness.grid.lifecycle.end(session.session_id, reason).state

    @property
    def usage(self) -> Usage:
        return self.harness.grid.tenants.read(self.name).usage

    @property
    def counts(self) -> tuple[int, int]:
        """Open sessions and their tasks."""
        return self.usage.open_sessions, self.usage.tasks


@pytest.fixture
def tenant(harness: Harness) -> Tenant:
    return Tenant(harness, new_id())


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.TIMED_OUT, EndReason.FAILURES])
def test_what_a_session_took_is_given_back_once_with_its_verdict(tenant: Tenant, reason: EndReason) -> None:
    session = tenant.create(2, 3, close=False)
    assert tenant.counts == (1, 5)
    tenant.add(session, 1, 1, first_chunk=2)
    other = tenant.create(4)
    assert tenant.counts == (2, 11)
    assert tenant.end(session, reason).ended
    assert tenant.counts == (1, 4)
    assert tenant.end(session, reason).ended
    assert tenant.counts == (1, 4)
    assert tenant.end(other, reason).ended
    assert tenant.counts == (0, 0)


def test_a_session_that_is_done_gives_back_what_it_took(tenant: Tenant) -> None:
    session = tenant.create(1, 2)
    tenant.harness.record(session, tenant.harness.finish(session, {0: "C", 1: "CF"}))
    assert tenant.harness.grid.lifecycle.end(session.session_id, EndReason.DONE).state is SessionState.FAILED
    assert tenant.counts == (0, 0)


def test_a_repeated_request_takes_nothing_but_its_place_in_the_rate(tenant: Tenant) -> None:
    session = tenant.create(2, 3, close=False)
    tenant.add(session, 1, 1, first_chunk=2)
    used = tenant.usage
    tenant.create(2, 3, session_id=session.session_id, close=False)
    tenant.add(session, 1, 1, first_chunk=2)
    assert replace(tenant.usage, submissions_until=used.submissions_until) == used
    assert tenant.usage.submissions_until == used.submissions_until + 2_000_000 // LIMITS.submissions_per_second
    tenant.add(session, 1, 1, first_chunk=3)
    assert tenant.counts == (1, 8)


def test_no_tenant_floods_a_queue_with_messages_of_what_it_has_submitted(tenant: Tenant) -> None:
    harness = tenant.harness
    session = tenant.create(*[1] * 2, close=False)
    tenant.add(session, *[1] * 511, first_chunk=2)
    grid = harness.grid.pausing
    repeated: dict[str, Callable[[], Session]] = {
        "create": lambda: tenant.create(*[1] * 2, session_id=session.session_id, close=False),
        "add": lambda: tenant.add(session, 1, first_chunk=1),
        "resume": lambda: grid.resume(tenant.name, session.session_id),
        "pause": lambda: grid.pause(tenant.name, session.session_id),
    }
    tenant.may(submissions_per_second=1)
    for what, costs in {"create": 1, "add": 1, "resume": 2, "pause": 2}.items():
        harness.clock.advance(20_000)
        for _ in range(10 // costs):
            repeated[what]()
        with pytest.raises(QuotaExceeded, match="more than 1 requests a second"):
            repeated[what]()
        harness.clock.advance(costs * 1000)
        repeated[what]()


def test_a_session_larger_than_a_burst_can_be_resumed_all_the_same() -> None:
    share = submissions_share(
        Usage(), Demand(submissions=5_000), LIMITS.model_copy(update={"submissions_per_second": 1})
    )
    assert share.wait(START * 1000) == 0


@pytest.mark.parametrize("died_in", [(ChunkStore, "insert"), (AccountStore, "add_submitted")])
def test_counts_come_back_whatever_died_between_the_writes(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, died_in: tuple[type, str]
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Died

    session_id = new_id()
    requests: list[Callable[[], Session]] = [
        lambda: tenant.create(2, 3, session_id=session_id, close=False),
        lambda: tenant.add(tenant.harness.grid.sessions.read(session_id), 1, first_chunk=2),
    ]
    for request in requests:
        with monkeypatch.context() as patch:
            patch.setattr(*died_in, die)
            with pytest.raises(Died):
                request()
        request()
    # What the dead processes took is counted twice, for the session and for its tenant alike.
    session = tenant.harness.grid.sessions.read(session_id)
    assert tenant.counts == (1, session.counted_tasks)
    assert tenant.end(session, EndReason.CANCELLED) is SessionState.CANCELLED
    assert tenant.counts == (0, 0)


def test_a_session_reopened_by_a_redrive_is_counted_until_its_next_verdict(tenant: Tenant) -> None:
    harness = tenant.harness
    session = tenant.create(2)
    fail(harness, session, 0, [line("KeyError"), b""])
    record(harness, session, 0)
    harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert tenant.counts == (0, 0)
    tenant.may(open_sessions=1)
    other = tenant.create(1)
    with pytest.raises(QuotaExceeded):
        harness.grid.redrives.redrive(tenant.name, session.session_id, RedriveTasks())
    tenant.end(other, EndReason.CANCELLED)
    assert harness.grid.redrives.redrive(tenant.name, session.session_id, RedriveTasks()).tasks == 1
    assert tenant.counts == (1, 1)
    assert tenant.end(session, EndReason.CANCELLED).ended
    assert tenant.counts == (0, 0)


def test_a_session_of_an_earlier_release_ends_without_a_count(tenant: Tenant) -> None:
    session = tenant.create(2, close=False)
    boto3.client("dynamodb").update_item(
        TableName=tenant.harness.grid.settings.sessions_table,
        Key={"session_id": {"S": session.session_id}},
        UpdateExpression="REMOVE counted_tasks, counted_chunks",
    )
    tenant.add(session, 1, first_chunk=1)
    assert tenant.end(session, EndReason.CANCELLED) is SessionState.CANCELLED
    assert tenant.counts == (1, 2)


def test_a_verdict_needs_no_count(tenant: Tenant) -> None:
    session = tenant.create(2)
    key = {"tenant": {"S": tenant.name}}
    boto3.client("dynamodb").delete_item(TableName=tenant.harness.grid.settings.tenants_table, Key=key)
    assert tenant.end(session, EndReason.CANCELLED) is SessionState.CANCELLED
    assert tenant.counts == (0, 0)


def test_a_tenant_with_as_many_open_sessions_as_it_may_have_waits_for_an_end(tenant: Tenant) -> None:
    tenant.may(open_sessions=2)
    first, second = tenant.create(1), tenant.create(1)
    session_id = new_id()
    with pytest.raises(QuotaExceeded, match="2 open sessions") as refusal:
        tenant.create(1, session_id=session_id)
    assert refusal.value.retry_after >= timedelta(seconds=1)
    assert refusal.value.retryable
    assert tenant.create(1, session_id=second.session_id).session_id == second.session_id
    tenant.end(first, EndReason.CANCELLED)
    tenant.create(1, session_id=session_id)
    assert tenant.counts == (2, 2)


def test_a_tenant_with_as_many_tasks_as_it_may_have_waits_for_an_end(tenant: Tenant) -> None:
    tenant.may(tasks=5)
    first = tenant.create(3, close=False)
    with pytest.raises(QuotaExceeded, match="hold 3 tasks: 3 more"):
        tenant.add(first, 3, first_chunk=1)
    tenant.add(first, 2, first_chunk=1)
    with pytest.raises(QuotaExceeded):
        tenant.create(1)
    assert tenant.add(first, 2, first_chunk=1).session_id == first.session_id
    with pytest.raises(NotAllowed, match="6 tasks"):
        tenant.create(6)
    tenant.end(first, EndReason.CANCELLED)
    tenant.create(5)


def test_what_is_refused_is_not_stored(tenant: Tenant) -> None:
    tenant.may(tasks=5)
    session = tenant.create(3, close=False)
    with pytest.raises(QuotaExceeded):
        tenant.add(session, 3, first_chunk=1)
    assert [row.key.chunk for row in tenant.harness.grid.chunks.rows(session, 0)] == [0]
    session_id = new_id()
    with pytest.raises(QuotaExceeded):
        tenant.create(3, session_id=session_id)
    assert tenant.create(1, session_id=session_id, max_retries=7).options.max_retries == 7


def test_submissions_have_a_rate_and_a_burst(tenant: Tenant) -> None:
    tenant.may(submissions_per_second=2)
    for _ in range(20):
        tenant.create(1)
    with pytest.raises(QuotaExceeded, match="2 requests a second") as refusal:
        tenant.create(1)
    assert refusal.value.retry_after == timedelta(milliseconds=500)
    tenant.harness.clock.advance(500)
    session = tenant.create(1, close=False)
    with pytest.raises(QuotaExceeded):
        tenant.add(session, 1, first_chunk=1)
    with pytest.raises(QuotaExceeded):
        tenant.harness.grid.quotas.store(tenant.name, 1, submissions=1)
    tenant.harness.clock.advance(60_000)
    tenant.add(session, 1, first_chunk=1)


def test_bytes_have_a_rate_and_a_burst(tenant: Tenant) -> None:
    tenant.may(bytes_per_day=24_000)
    store: Callable[..., None] = tenant.harness.grid.quotas.store
    store(tenant.name, 23_000)
    with pytest.raises(QuotaExceeded, match="24000 bytes") as refusal:
        store(tenant.name, 2_000)
    assert timedelta(minutes=59) < refusal.value.retry_after <= timedelta(hours=1)
    tenant.harness.clock.advance(3_600_000)
    store(tenant.name, 2_000)
    with pytest.raises(QuotaExceeded):
        tenant.create(1)
    with pytest.raises(NotAllowed, match="24001 bytes"):
        store(tenant.name, 24_001)


def test_the_smallest_part_of_the_largest_limit_is_taken(tenant: Tenant) -> None:
    tenant.may(bytes_per_day=1 << 50)
    for _ in range(2):
        tenant.harness.grid.quotas.store(tenant.name, 1)
    assert tenant.harness.grid.tenants.read(tenant.name).usage.bytes_until == tenant.harness.clock() * 1_000 + 2


def test_a_tenant_may_be_kept_from_high_priority_and_from_long_tasks(tenant: Tenant) -> None:
    session = tenant.create(1, priority=Priority.HIGH, task_timeout_seconds=300)
    tenant.may(high_priority=False, task_timeout_seconds=60)
    with pytest.raises(NotAllowed, match="high"):
        tenant.create(1, priority=Priority.HIGH, task_timeout_seconds=60)
    with pytest.raises(NotAllowed, match="60 seconds, not 61"):
        tenant.create(1, task_timeout_seconds=61)
    tenant.create(1, task_timeout_seconds=60)
    tenant.create(1, session_id=session.session_id, priority=Priority.HIGH, task_timeout_seconds=300)


def test_limits_that_are_not_legal_are_named(tenant: Tenant) -> None:
    tenant.may(open_sessions=0)
    with pytest.raises(BadSettings, match="open_sessions"):
        tenant.create(1)


def test_limits_hold_for_requests_at_the_same_time(tenant: Tenant) -> None:
    tenant.may(open_sessions=8)

    def create(_: int) -> Session | None:
        try:
            return tenant.create(1)
        except QuotaExceeded:
            return None

    with ThreadPoolExecutor(4) as threads:
        made = [session for session in threads.map(create, range(16)) if session]
        assert (len(made), tenant.counts) == (8, (8, 8))
        list(threads.map(lambda session: tenant.end(session, EndReason.CANCELLED), made))
    assert tenant.counts == (0, 0)


def test_the_limits_of_a_tenant_are_the_settings_unless_its_row_has_others(tenant: Tenant) -> None:
    tenants = tenant.harness.grid.tenants
    assert tenants.read(tenant.name).limits == LIMITS
    tenant.may(tasks=7)
    assert tenants.read(tenant.name).limits == LIMITS.model_copy(update={"tasks": 7})


def test_a_chunk_far_beyond_those_that_a_session_holds_is_refused(tenant: Tenant) -> None:
    with pytest.raises(SessionConflict, match="takes numbers below 4097"):
        tenant.harness.grid.submissions.create(
            tenant.name, new_id(), CreateSession(chunks=inputs(1, first_chunk=1_999_999))
        )
    assert tenant.counts == (0, 0)
    session = tenant.create(*[1] * 3, close=False)
    with pytest.raises(SessionConflict, match="Submit chunks in the order"):
        tenant.add(session, 1, first_chunk=4 + MAX_CHUNKS_AHEAD)
    # As a client does that has several requests on their way, out of order, and one that goes on after a break.
    tenant.add(session, 1, first_chunk=3 + MAX_CHUNKS_AHEAD)
    tenant.add(session, 1, 1, first_chunk=3)
    tenant.add(session, 1, first_chunk=0)
    with pytest.raises(SessionConflict):
        tenant.add(session, 1, first_chunk=7 + MAX_CHUNKS_AHEAD)
    tenant.end(session, EndReason.CANCELLED)


def test_totals_that_name_more_than_there_is_cost_no_reading(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tenant.create(1, close=False)
    read, asked = AccountStore.read, list[int]()

    def counted(store: AccountStore, owner: Session, buckets: Any) -> Any:
        asked.append(len(buckets))
        return read(store, owner, buckets)

    monkeypatch.setattr(AccountStore, "read", counted)
    request = AddChunks(totals=Totals(chunks=2_000_000, tasks=2_000_000))
    with pytest.raises(SessionConflict, match="1999999 of 2000000 chunks were not submitted, such as 1, 2, 3"):
        tenant.harness.grid.submissions.add(tenant.name, session.session_id, request)
    assert sum(asked) <= 2


def test_a_clock_that_went_wrong_shuts_no_tenant_out(tenant: Tenant) -> None:
    tenant.harness.clock.advance(30 * 86_400_000)
    tenant.create(1)
    tenant.harness.clock.advance(-30 * 86_400_000)
    tenant.create(1)
    assert tenant.counts == (2, 2)
