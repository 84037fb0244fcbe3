"""The sessions table: what is written once stays, and what contradicts is refused."""

from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.support.control_plane_harness import START, TENANT, create_table

from htcgrid_controlplane.errors import SessionConflict, SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_controlplane.storage.sessions import (
    MAX_SUBSCRIBERS,
    SessionStore,
)
from htcgrid_events import Account, SessionOptions, SessionState, Totals, new_id

TOTALS = Totals(chunks=200, tasks=2000)


@pytest.fixture
def store(empty_dynamodb: None) -> SessionStore:
    return SessionStore(boto3.client("dynamodb"), create_table("SessionsTable", "sessions"), lambda: START, 7)


def created(store: SessionStore, session: Session) -> bool:
    """Whether a session's row was inserted."""
    try:
        boto3.client("dynamodb").transact_write_items(TransactItems=[store.insertion(session)])
    except ClientError as error:
        return not condition_failed(error, 0)
    return True


@pytest.fixture
def session(store: SessionStore) -> Session:
    session = Session(new_id(), TENANT, SessionOptions(max_retries=7), START, START + 1000, expires_at=1_760_000_600)
    assert created(store, session)
    return session


def test_a_session_is_read_as_it_was_written(store: SessionStore, session: Session) -> None:
    assert store.read(session.session_id) == session
    closed = replace(
        session, session_id=new_id(), state=SessionState.RUNNING, totals=TOTALS, buckets=2, subscribers=frozenset("ab")
    )
    assert created(store, closed)
    assert store.read(closed.session_id) == closed


def test_a_session_is_inserted_only_if_absent(store: SessionStore, session: Session) -> None:
    assert not created(store, replace(session, tenant="thief"))
    assert store.read(session.session_id) == session


def test_what_is_not_there_is_not_found(store: SessionStore) -> None:
    nobody = new_id()
    unknown = Session(nobody, TENANT, SessionOptions(), START, START)
    for request in (
        lambda: store.read(nobody),
        lambda: store.close(nobody, TOTALS),
        lambda: store.add_full(unknown, frozenset({0})),
        lambda: store.store_token(nobody, "token"),
        lambda: store.stop(nobody, EndReason.CANCELLED),
        lambda: store.subscribe(nobody, "s"),
        lambda: store.reserve_buckets(nobody, 3),
        lambda: store.end(unknown, SessionState.CANCELLED, Account(), START),
    ):
        with pytest.raises(SessionNotFound):
            request()
        with pytest.raises(SessionNotFound):
            store.read(nobody)


def test_buckets_are_reserved_and_never_given_back(store: SessionStore, session: Session) -> None:
    for wanted, reserved in ((3, 3), (2, 3), (5, 5)):
        store.reserve_buckets(session.session_id, wanted)
        assert store.read(session.session_id).buckets == reserved


def test_a_session_is_closed_once_and_closing_it_alike_again_is_no_error(store: SessionStore, session: Session) -> None:
    closed = store.close(session.session_id, TOTALS)
    assert (closed.totals, closed.state) == (TOTALS, SessionState.RUNNING)
    assert store.close(session.session_id, TOTALS) == closed
    with pytest.raises(SessionConflict):
        store.close(session.session_id, Totals(chunks=200, tasks=2001))
    assert store.read(session.session_id) == closed


def test_a_session_is_done_when_all_its_buckets_are_full(store: SessionStore, session: Session) -> None:
    assert store.add_full(session, frozenset({0})).end_reason is None
    assert store.close(session.session_id, TOTALS).end_reason is None
    assert store.add_full(session, frozenset({0})).end_reason is None
    done = store.add_full(session, frozenset({0, 1}))
    assert done.full_buckets == {0, 1}
    assert done.end_reason is EndReason.DONE


def test_the_first_reason_to_stop_stays(store: SessionStore, session: Session) -> None:
    assert store.stop(session.session_id, EndReason.TIMED_OUT).stop_reason is EndReason.TIMED_OUT
    assert store.stop(session.session_id, EndReason.CANCELLED).stop_reason is EndReason.TIMED_OUT
    assert store.read(session.session_id).end_reason is EndReason.TIMED_OUT


def test_a_subscriber_follows_once_and_only_so_many_do(store: SessionStore, session: Session) -> None:
    for number in range(MAX_SUBSCRIBERS):
        store.subscribe(session.session_id, f"s{number}")
    assert store.subscribe(session.session_id, "s3").subscribers == {f"s{number}" for number in range(MAX_SUBSCRIBERS)}
    with pytest.raises(SessionConflict):
        store.subscribe(session.session_id, "one too many")
    assert len(store.read(session.session_id).subscribers) == MAX_SUBSCRIBERS


def test_a_verdict_is_written_once(store: SessionStore, session: Session) -> None:
    store.close(session.session_id, TOTALS)
    store.store_token(session.session_id, "token")
    account = Account(submitted=2000, completed=1999, failed=1)
    ended = store.end(session, SessionState.FAILED, account, START + 5)
    assert (ended.state, ended.account, ended.ended_at, ended.task_token) == (
        SessionState.FAILED,
        account,
        START + 5,
        "",
    )
    assert store.end(session, SessionState.CANCELLED, Account(), START + 9) == ended
    assert store.stop(session.session_id, EndReason.CANCELLED) == ended


def test_a_session_that_is_open_still_cannot_have_completed(store: SessionStore, session: Session) -> None:
    assert store.end(session, SessionState.COMPLETED, Account(), START) == session
    assert store.end(session, SessionState.CANCELLED, Account(), START).state is SessionState.CANCELLED
