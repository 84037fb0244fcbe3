"""A retry waits: never longer than its ceiling, and spread over all of it."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from htcgrid_chunks.backoff import Backoff

bases = st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=1))
caps = st.timedeltas(timedelta(seconds=1), timedelta(hours=1))
factors = st.floats(1.0, 10.0)
retries = st.integers(1, 100_000)


@given(bases, factors, caps, retries, st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_between_nothing_and_its_ceiling(
    base: timedelta, factor: float, cap: timedelta, retry: int, random: float
) -> None:
    backoff = Backoff(base, factor, cap)
    assert timedelta(0) <= backoff.wait(retry, lambda: random) <= backoff.ceiling(retry) <= cap


@given(bases, factors, caps, retries)
def test_ceilings_grow_by_the_factor_up_to_the_cap(base: timedelta, factor: float, cap: timedelta, retry: int) -> None:
    backoff = Backoff(base, factor, cap)
    assert backoff.ceiling(1) == min(base, cap)
    assert backoff.ceiling(retry) <= backoff.ceiling(retry + 1)
    if base * factor**2 < cap:
        assert abs(backoff.ceiling(3) - base * factor**2) <= timedelta(microseconds=1)


def test_the_whole_of_a_wait_is_jitter() -> None:
    backoff = Backoff(timedelta(seconds=1), 2, timedelta(seconds=60))
    assert [backoff.wait(4, lambda part=part: part) for part in (0.0, 0.5, 0.75)] == [  # type: ignore[misc]
        timedelta(seconds=seconds) for seconds in (0, 4, 6)
    ]


def test_a_very_long_history_waits_for_the_cap() -> None:
    backoff = Backoff(timedelta(seconds=1), 2, timedelta(minutes=5))
    assert {backoff.ceiling(retry) for retry in (10, 48, 65, 10_000)} == {timedelta(minutes=5)}
