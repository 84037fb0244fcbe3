"""The chunks of a session hold each of its tasks once."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_controlplane.rules.tiling import (
    BucketSpans,
    Span,
    fault_in_bucket,
    fault_within,
    sum_of_edges,
    torn_bucket,
)
from htcgrid_events import BUCKET_SIZE, MAX_TASKS_PER_CHUNK, Totals


def tiled(sizes: list[int]) -> list[Span]:
    spans, first = list[Span](), 0
    for chunk, size in enumerate(sizes):
        spans.append(Span(chunk, first, size))
        first += size
    return spans


def buckets_of(spans: list[Span]) -> list[BucketSpans]:
    made = []
    for bucket in range(-(-len(spans) // BUCKET_SIZE)):
        members = [span for span in spans if span.chunk // BUCKET_SIZE == bucket]
        made.append(
            BucketSpans(bucket, len(members), sum(span.size for span in members), sum_of_edges(members))
        )  # fmt: skip
    return made


@given(st.lists(st.integers(1, MAX_TASKS_PER_CHUNK), min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_chunks_that_follow_each_other_are_well_whole_and_in_any_part(sizes: list[int], rng: random.Random) -> None:
    spans = tiled(sizes)
    totals = Totals(chunks=len(sizes), tasks=sum(sizes))
    some = rng.sample(spans, rng.randint(1, len(spans)))
    assert fault_within(spans, totals) is None
    assert fault_within(some, totals) is None
    assert fault_within(some, None) is None
    assert torn_bucket(buckets_of(spans)) is None


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=300),
    st.data(),
)
def test_a_chunk_elsewhere_tears_its_bucket_whatever_the_sums_say(sizes: list[int], data: st.DataObject) -> None:
    spans = tiled(sizes)
    place = data.draw(st.integers(0, len(spans) - 1))
    moved = data.draw(st.integers(0, 10_000).filter(lambda first: first != spans[place].first_task))
    spans[place] = Span(place, moved, spans[place].size)
    torn = torn_bucket(buckets_of(spans))
    assert torn is not None
    bucket, first_task = torn
    assert bucket == place // BUCKET_SIZE
    assert fault_in_bucket(first_task, [span for span in spans if span.chunk // BUCKET_SIZE == bucket])


def test_a_bucket_of_an_earlier_release_is_taken_as_it_is() -> None:
    assert torn_bucket([BucketSpans(0, BUCKET_SIZE, 500, None), *buckets_of([])]) is None


@pytest.mark.parametrize(
    ("spans", "totals", "sentence"),
    [
        ([Span(0, 10**12, 1)], Totals(chunks=1, tasks=1), "No chunk holds the tasks 0 to 999999999999"),
        ([Span(0, 10**12, 1)], None, "No chunk holds the tasks 0 to 999999999999"),
        (
            [Span(0, 0, 5), Span(1, 7, 1)],
            None,
            "No chunk holds the tasks 5 to 6: chunk 1 begins with task 7",
        ),
        ([Span(0, 0, 5), Span(1, 3, 9)], None, "Chunks overlap in the tasks 3 to 4"),
        ([Span(0, 0, 5), Span(9, 7, 1)], None, "before chunk 9.*that 13 to 8005"),
        ([Span(9, 9_001, 1)], None, "before chunk 9.*that 9 to 9000"),
        ([Span(0, 0, 5)], Totals(chunks=1, tasks=6), "No chunk holds the tasks 5 to 5: the session holds 6 tasks"),
        ([Span(0, 0, 5)], Totals(chunks=1, tasks=4), "overlap in the tasks 4 to 4"),
        ([Span(0, 0, 5)], Totals(chunks=3, tasks=6), "before chunk 3"),
        ([Span(3, 3, 5)], Totals(chunks=3, tasks=9), "there is no chunk 3"),
    ],
)
def test_what_is_wrong_is_named(spans: list[Span], totals: Totals | None, sentence: str) -> None:
    fault = fault_within(spans, totals)
    assert fault is not None
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(fault)


def test_the_sum_of_a_bucket_is_a_number_that_every_store_keeps() -> None:
    assert 2 * BUCKET_SIZE * 2**64 < 10**28
