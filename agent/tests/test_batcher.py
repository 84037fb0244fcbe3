"""How single items become requests."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from agent.tests.embedded import until
from botocore.exceptions import HTTPClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from htcgrid_agent.protocol.batcher import Batcher

LONG = timedelta(minutes=10)


class Sent:
    """Takes batches, one whenever it is let."""

    def __init__(self, *, free: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.refused: list[set[int] | None] = []
        self.turns = threading.Semaphore(10**6 if free else 0)

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.turns.acquire()
        if self.refused:
            refused = self.refused.pop(0)
            if refused is None:
                raise HTTPClientError(error="out of reach")
            return [item for item in items if item in refused]
        return []


@contextmanager
def batcher(
    sent: Sent, most: int = 3, linger: timedelta = timedelta(0), company: Callable[[], bool] = lambda: True
) -> Iterator[Batcher[int]]:
    made = Batcher("test", sent, most=most, linger=linger, company=company)
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


def test_the_first_item_waits_for_company() -> None:
    sent = Sent()
    with batcher(sent, linger=LONG) as made:
        made.put(1)
        made.put(2)
        assert not sent.batches
        made.put(3)
        until(lambda: sent.batches == [[1, 2, 3]])


def test_an_item_to_which_no_company_will_come_does_not_wait() -> None:
    sent = Sent()
    with batcher(sent, linger=LONG, company=lambda: False) as made:
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
def test_every_item_is_delivered_in_the_end(items: list[int], most: int, refused: list[set[int] | None]) -> None:
    sent = Sent()
    sent.refused = list(refused)
    with batcher(sent, most) as made:
        made.put_all(items)
        assert made.flush(timedelta(seconds=30))
    assert {item for batch in sent.batches for item in batch} == set(items)
    assert all(1 <= len(batch) <= most for batch in sent.batches)
