"""How single items become requests."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
from agent.tests.embedded import until
from botocore.exceptions import ClientError, HTTPClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from htcgrid_agent.aws.entries import EntryResult
from htcgrid_agent.protocol.batcher import Batcher
from htcgrid_agent.telemetry.metrics import Metrics

LONG = timedelta(minutes=10)


class Sent:
    """Takes batches, one whenever it is let."""

    def __init__(self, *, free: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.refused: list[set[int] | None] = []
        """Which items to refuse for now, request by request; none for a request that fails as a whole."""
        self.bad: set[int] = set()
        """Which items to refuse for good."""
        self.fails_as_a_whole = False
        """Whether a request with a bad item is refused as a whole, or only that item."""
        self.dropped: list[int] = []
        self.turns = threading.Semaphore(10**6 if free else 0)

    def __call__(self, items: Sequence[int]) -> list[EntryResult]:
        self.batches.append(list(items))
        self.turns.acquire()
        if self.refused:
            refused = self.refused.pop(0)
            if refused is None:
                raise HTTPClientError(error="out of reach")
            return [EntryResult.RETRY if item in refused else EntryResult.ACCEPTED for item in items]
        if self.fails_as_a_whole and self.bad.intersection(items):
            raise bad_request()
        return [EntryResult.REFUSED if item in self.bad else EntryResult.ACCEPTED for item in items]


def bad_request() -> ClientError:
    return ClientError(
        {"Error": {"Code": "ValidationException", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
        "Send",
    )


@contextmanager
def batcher(
    sent: Sent, max_items: int = 3, linger: timedelta = timedelta(0), expects_more: Callable[[], bool] = lambda: True
) -> Iterator[Batcher[int]]:
    made = Batcher(
        "test",
        sent,
        refused=sent.dropped.append,
        max_items=max_items,
        linger=linger,
        expects_more=expects_more,
        metrics=Metrics(),
    )
    made.start()
    try:
        yield made
    finally:
        sent.turns.release(1000)
        made.close()


def test_a_full_batch_does_not_wait() -> None:
    sent = Sent()
    with batcher(sent, linger=LONG) as made:
        made.put_all([1, 2, 3])
        until(lambda: sent.batches == [[1, 2, 3]])


def test_the_first_item_waits_for_others() -> None:
    sent = Sent()
    with batcher(sent, linger=LONG) as made:
        made.put(1)
        made.put(2)
        assert not sent.batches
        made.put(3)
        until(lambda: sent.batches == [[1, 2, 3]])


def test_an_item_that_no_others_will_follow_does_not_wait() -> None:
    sent = Sent()
    with batcher(sent, linger=LONG, expects_more=lambda: False) as made:
        made.put(1)
        until(lambda: sent.batches == [[1]])


def test_what_comes_during_a_request_goes_with_the_next() -> None:
    sent = Sent(free=False)
    with batcher(sent) as made:
        made.put(1)
        until(lambda: sent.batches == [[1]])
        made.put(2)
        made.put(3)
        sent.turns.release()
        until(lambda: sent.batches == [[1], [2, 3]])


def test_a_flush_does_not_linger() -> None:
    sent = Sent()
    with batcher(sent, linger=LONG) as made:
        made.put(1)
        assert made.flush(timedelta(seconds=5))
        assert sent.batches == [[1]]


def test_a_flush_that_takes_too_long_says_so() -> None:
    sent = Sent(free=False)
    with batcher(sent) as made:
        made.put(1)
        assert not made.flush(timedelta(milliseconds=50))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(), unique=True, max_size=30),
    st.integers(1, 10),
    st.lists(st.none() | st.sets(st.integers(0, 3)), max_size=2),
)
def test_every_item_is_delivered_in_the_end(items: list[int], max_items: int, refused: list[set[int] | None]) -> None:
    sent = Sent()
    sent.refused = list(refused)
    with batcher(sent, max_items) as made:
        made.put_all(items)
        assert made.flush(timedelta(seconds=30))
    assert {item for batch in sent.batches for item in batch} == set(items)
    assert all(1 <= len(batch) <= max_items for batch in sent.batches)


@pytest.mark.parametrize("fails_as_a_whole", [True, False])
def test_items_that_are_refused_for_good_are_dropped_and_block_no_others(fails_as_a_whole: bool) -> None:
    sent = Sent()
    sent.bad = {1, 2, 3, 5}
    sent.fails_as_a_whole = fails_as_a_whole
    with batcher(sent) as made:
        made.put_all([1, 2, 3, 4, 5, 6])
        assert made.flush(timedelta(seconds=5))
    assert sorted(sent.dropped) == [1, 2, 3, 5]
    accepted = [
        item for batch in sent.batches for item in batch if not sent.bad.intersection(batch) or not fails_as_a_whole
    ]
    assert {4, 6} <= set(accepted)


def test_items_that_are_refused_for_now_wait_behind_those_that_came_meanwhile() -> None:
    sent = Sent()
    sent.refused = [{1, 2}]
    with batcher(sent, max_items=3) as made:
        made.put_all([1, 2, 3, 4])
        assert made.flush(timedelta(seconds=5))
    assert sent.batches == [[1, 2, 3], [4, 1, 2]]
