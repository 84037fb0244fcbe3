"""A session stops when more of its tasks have failed than it bears."""

from collections.abc import Callable

import pytest
from tests.support.control_plane_harness import TENANT, Harness, inputs

from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_events import AddChunks, SessionState, Totals


def fail(harness: Harness, session: Session, *chunks: int) -> Session:
    for chunk in chunks:
        harness.record(session, harness.finish(session, {chunk: "F" * harness.row(session, chunk).size}))
    return harness.read(session)


def test_a_session_stops_at_the_first_failure_beyond_its_budget(harness: Harness) -> None:
    session = harness.create(1, 1, 1, 1, max_failures=2)
    assert fail(harness, session, 0, 1).stop_reason is None
    harness.events()
    assert fail(harness, session, 2).stop_reason is EndReason.FAILURES
    stopping = {"session_id": session.session_id, "tenant": TENANT, "reason": "failures"}
    assert ("Session Stopping", stopping) in harness.events()


def test_a_session_that_used_up_its_budget_has_failed_and_the_rest_is_cancelled(harness: Harness) -> None:
    session = harness.create(1, 3, max_failures=0)
    fail(harness, session, 0)
    assert harness.grid.lifecycle.settle(session.session_id, EndReason.FAILURES, 0) is None
    ended = harness.grid.lifecycle.end(session.session_id, EndReason.FAILURES)
    assert ended.state is SessionState.FAILED
    assert ended.account is not None
    assert (ended.account.failed, ended.account.cancelled) == (1, 3)


def test_a_session_without_a_budget_fails_to_its_end(harness: Harness) -> None:
    session = harness.create(1, 1)
    assert fail(harness, session, 0).stop_reason is None
    assert harness.read(session).failures == 0


@pytest.mark.parametrize(("share", "stopped"), [(0.24, True), (0.25, False)])
def test_a_share_is_of_the_whole_session(harness: Harness, share: float, *, stopped: bool) -> None:
    session = harness.create(1, 3, max_failure_share=share)
    assert (fail(harness, session, 0).stop_reason is EndReason.FAILURES) is stopped


def test_a_share_is_judged_once_the_session_is_closed(harness: Harness) -> None:
    session = harness.create(1, close=False, max_failure_share=0.4)
    assert fail(harness, session, 0).stop_reason is None
    more = AddChunks(chunks=inputs(1, first_chunk=1, first_task=1), totals=Totals(chunks=2, tasks=2))
    assert harness.grid.submissions.add(TENANT, session.session_id, more).stop_reason is EndReason.FAILURES


def test_an_event_that_comes_twice_is_not_spent_twice(harness: Harness) -> None:
    session = harness.create(1, 1, 1, max_failures=1)
    events = harness.finish(session, {0: "F"})
    for _ in range(3):
        harness.record(session, events)
    assert harness.read(session).failures == 1
    assert harness.read(session).stop_reason is None


def test_a_failure_that_two_counted_at_once_stops_no_session_that_bears_it(harness: Harness) -> None:
    session = harness.create(1, 1, 1, max_failures=1)
    # Whoever counted anew, when an event came again, saw a failure in the account that another then added as well.
    harness.grid.sessions.add_failures(session.session_id, 1)
    assert fail(harness, session, 0).stop_reason is None
    assert fail(harness, session, 1).stop_reason is EndReason.FAILURES


def test_failures_that_a_crash_left_out_are_counted_when_the_event_comes_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = harness.create(1, 1, max_failures=0)
    events = harness.finish(session, {0: "F"})
    record: Callable[..., object] = AccountStore.record

    def counted_and_gone(*arguments: object) -> None:
        record(*arguments)
        raise ConnectionError("the function's host is gone")

    with monkeypatch.context() as broken:
        broken.setattr(AccountStore, "record", counted_and_gone)
        with pytest.raises(ConnectionError):
            harness.record(session, events)
    assert harness.read(session).stop_reason is None
    harness.record(session, events)
    assert harness.read(session).stop_reason is EndReason.FAILURES


def test_a_session_that_has_run_to_its_end_is_not_stopped(harness: Harness) -> None:
    session = harness.create(1, max_failures=0)
    assert fail(harness, session, 0).stop_reason is None
    assert harness.read(session).end_reason is EndReason.DONE
