"""The account of a session and its verdict."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_controlplane.errors import AccountOpen
from htcgrid_controlplane.rules.accounting import (
    BucketAccount,
    EndReason,
    buckets_in,
    chunks_expected,
    missing_chunks,
    total_of,
    verdict_of,
)
from htcgrid_events import BUCKET_SIZE, Account, SessionState, Totals, bucket_of

counts = st.integers(0, 1_000)
accounts = st.builds(Account, submitted=counts, completed=counts, failed=counts, cancelled=counts)
closed_accounts = st.builds(
    lambda completed, failed, cancelled: Account(
        submitted=completed + failed + cancelled, completed=completed, failed=failed, cancelled=cancelled
    ),
    counts,
    counts,
    counts,
)
totals_of_any_size = st.builds(Totals, chunks=st.integers(1, 100_000), tasks=st.integers(1, 1_000_000))
reasons = st.sampled_from(EndReason)


@given(totals_of_any_size)
def test_the_buckets_of_a_session_pause_all_its_chunks_and_only_the_last_is_smaller(totals: Totals) -> None:
    sizes = [chunks_expected(totals, bucket) for bucket in range(buckets_in(totals))]
    assert sum(sizes) == totals.chunks
    assert all(size == BUCKET_SIZE for size in sizes[:-1])
    assert 1 <= sizes[-1] <= BUCKET_SIZE
    assert bucket_of(totals.chunks - 1) == buckets_in(totals) - 1


@given(st.sets(st.integers(0, 400)), st.integers(1, 400))
def test_missing_chunks_are_those_that_nobody_submitted(submitted: set[int], size: int) -> None:
    buckets = [
        BucketAccount(bucket, submitted=frozenset(chunk for chunk in submitted if bucket_of(chunk) == bucket))
        for bucket in range(4)
    ]
    missing = sorted(set(range(size)) - submitted)
    assert missing_chunks(buckets, Totals(chunks=size, tasks=size), 3) == (len(missing), missing[:3])


@given(st.lists(accounts))
def test_the_whole_is_the_sum_of_its_buckets(parts: list[Account]) -> None:
    total = total_of(BucketAccount(number, tasks=part) for number, part in enumerate(parts))
    assert total.submitted == sum(part.submitted for part in parts)
    assert total.finished == sum(part.finished for part in parts)
    assert (total.completed, total.failed) == (sum(p.completed for p in parts), sum(p.failed for p in parts))


@given(st.integers(1, BUCKET_SIZE), st.data())
def test_a_bucket_is_full_once_every_chunk_it_will_hold_has_finished(expected: int, data: st.DataObject) -> None:
    finished = data.draw(st.sets(st.integers(0, expected - 1)))
    account = BucketAccount(0, finished=dict.fromkeys(finished, 1), expected=expected)
    assert account.full is (finished == set(range(expected)))


@given(reasons, accounts.filter(lambda account: not account.closes), st.none() | totals_of_any_size)
def test_there_is_no_verdict_on_an_open_account(reason: EndReason, account: Account, totals: Totals | None) -> None:
    with pytest.raises(AccountOpen):
        verdict_of(reason, account, totals)


@given(reasons, closed_accounts, st.none() | totals_of_any_size)
def test_a_verdict_never_flatters(reason: EndReason, account: Account, totals: Totals | None) -> None:
    try:
        verdict = verdict_of(reason, account, totals)
    except AccountOpen:
        assert reason is EndReason.DONE
        assert totals is None or account.submitted != totals.tasks
        return
    assert verdict.ended
    if verdict is SessionState.COMPLETED:
        assert totals is not None
        assert account.completed == account.submitted == totals.tasks
    if verdict is SessionState.FAILED:
        assert account.failed or reason is EndReason.FAILURES


@given(closed_accounts.filter(lambda account: account.submitted > 0), reasons)
def test_a_session_whose_tasks_all_ran_is_judged_by_them_whoever_wanted_it_to_stop(
    account: Account, reason: EndReason
) -> None:
    ran = account.model_copy(update={"cancelled": 0, "submitted": account.completed + account.failed})
    if not ran.submitted:
        return
    totals = Totals(chunks=1, tasks=ran.submitted)
    assert verdict_of(reason, ran, totals) is (SessionState.FAILED if ran.failed else SessionState.COMPLETED)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (EndReason.CANCELLED, SessionState.CANCELLED),
        (EndReason.TIMED_OUT, SessionState.TIMED_OUT),
        (EndReason.FAILURES, SessionState.FAILED),
    ],
)
def test_a_session_that_was_stopped_says_why(reason: EndReason, verdict: SessionState) -> None:
    stopped = Account(submitted=4, completed=2, failed=1, cancelled=1)
    never_closed = Account(submitted=3, completed=3)
    empty = Account()
    for account, totals in product((stopped, never_closed, empty), (None, Totals(chunks=1, tasks=4))):
        assert verdict_of(reason, account, totals) is verdict


def test_a_session_is_not_done_while_tasks_are_missing() -> None:
    with pytest.raises(AccountOpen, match="said to be done"):
        verdict_of(EndReason.DONE, Account(submitted=3, completed=3), Totals(chunks=1, tasks=4))


@pytest.mark.parametrize(("failed", "verdict"), [(0, SessionState.CANCELLED), (1, SessionState.FAILED)])
def test_tasks_that_were_cancelled_before_a_redrive_are_not_passed_over(failed: int, verdict: SessionState) -> None:
    account = Account(submitted=4, completed=3 - failed, failed=failed, cancelled=1)
    assert verdict_of(EndReason.DONE, account, Totals(chunks=1, tasks=4)) is verdict
