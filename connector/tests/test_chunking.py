"""The size of chunks, for all sizes of sessions."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid._submit.chunking import (
    LARGEST_AUTOMATIC_CHUNK,
    SizeAt,
    automatic_size,
    growing_size,
)
from htcgrid._submit.encoding import Encoder
from htcgrid._submit.packing import KnownChunks, Packer, pack
from htcgrid_dataplane import decode_lines
from htcgrid_events import BUCKET_SIZE

COUNTS = st.integers(1, 5_000_000)
LINES = st.lists(st.integers(0, 10**12).map(lambda number: str(number).encode()), max_size=200)


def cut(lines: list[bytes], size_at: SizeAt, max_bytes: int, known: KnownChunks | None = None) -> list[list[bytes]]:
    encoder = Encoder()
    encoder.known = known or encoder.known
    batches = list(pack(lines, Packer(encoder, size_at, max_bytes)))
    chunks = [chunk for batch in batches for chunk in batch]
    assert [chunk.chunk for chunk in chunks] == list(range(len(chunks)))
    assert all(len({chunk.chunk // BUCKET_SIZE for chunk in batch}) == 1 for batch in batches)
    return [decode_lines(chunk.inputs, chunk.size) for chunk in chunks]


def chunks_of(tasks: int) -> int:
    return -(-tasks // automatic_size(tasks))


@given(COUNTS)
def test_larger_sessions_never_have_smaller_chunks(tasks: int) -> None:
    assert automatic_size(tasks) <= automatic_size(tasks + 1) <= LARGEST_AUTOMATIC_CHUNK


@given(st.integers(1, 127))
def test_few_tasks_are_each_a_chunk_of_their_own(tasks: int) -> None:
    assert chunks_of(tasks) == tasks


@given(st.integers(64, 5_000_000))
def test_larger_sessions_keep_64_workers_busy(tasks: int) -> None:
    assert chunks_of(tasks) >= 64


@pytest.mark.parametrize(("tasks", "least", "most"), [(1, 1, 1), (5_000, 50, 78), (100_000, 200, 500)])
def test_sizes_at_landmarks(tasks: int, least: int, most: int) -> None:
    assert least <= automatic_size(tasks) <= most


@given(COUNTS)
def test_the_last_chunk_of_a_stream_is_small_beside_the_whole(first_task: int) -> None:
    assert 1 <= growing_size(first_task) <= max(1, first_task // 64)


def test_a_long_stream_reaches_large_chunks() -> None:
    firsts = list(accumulate(range(2000), lambda first, _: first + growing_size(first)))
    assert firsts[64] == 64
    assert firsts[700] > 100_000
    assert growing_size(firsts[-1]) == LARGEST_AUTOMATIC_CHUNK


@given(LINES, st.integers(1, 20), st.integers(1, 200))
def test_cutting_keeps_every_line_in_its_place(lines: list[bytes], size: int, max_bytes: int) -> None:
    chunks = cut(lines, lambda _first: size, max_bytes)
    assert [line for chunk in chunks for line in chunk] == lines
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert all(len(chunk) == 1 or sum(map(len, chunk)) <= max_bytes for chunk in chunks)


@given(LINES, st.integers(1, 20), st.integers(1, 200))
def test_no_chunk_could_have_taken_the_next_line(lines: list[bytes], size: int, max_bytes: int) -> None:
    for chunk, following in pairwise(cut(lines, lambda _first: size, max_bytes)):
        text = sum(len(line) + 1 for line in chunk)
        assert len(chunk) == size or text + len(following[0]) > max_bytes


@given(st.integers(1, 3000))
def test_sizes_are_asked_for_by_the_first_task(tasks: int) -> None:
    first = 0
    for chunk in cut([b"1"] * tasks, growing_size, 1_000_000):
        assert len(chunk) == growing_size(first) or first + len(chunk) == tasks
        first += len(chunk)
    assert first == tasks


@given(st.lists(st.integers(1, 9), max_size=300), st.integers(1, 20), st.integers(0, 50), st.data())
def test_a_repetition_is_cut_like_what_the_grid_has(
    sizes: list[int], size: int, more: int, data: st.DataObject
) -> None:
    firsts = [0, *accumulate(sizes)]
    records = list(zip(range(len(sizes)), firsts, sizes, strict=False))
    kept = [record for record in records if data.draw(st.booleans())]
    chunks = cut([b"1"] * (sum(sizes) + more), lambda _first: size, 1_000_000, KnownChunks(kept))
    starts = [0, *accumulate(map(len, chunks))]
    for number, first, length in kept:
        assert (starts[number], len(chunks[number])) == (first, length)
    assert sum(map(len, chunks)) == sum(sizes) + more


def test_what_waits_can_be_taken_before_its_chunk_is_full() -> None:
    times = iter([0.0, 0.25])
    encoder = Encoder()
    packer = Packer(encoder, lambda _first: 3, 1_000, clock=lambda: next(times, 1.0))
    assert not packer.add(b"1")
    waited = packer.age
    assert waited == 0.25
    ((chunk,),) = packer.take(last=False)
    assert (chunk.chunk, chunk.first_task, chunk.size) == (0, 0, 1)
    assert packer.age is None
    encoder.known = KnownChunks([(1, 1, 2)])
    packer.add(b"2")
    assert packer.take(last=False) == []  # the grid knows this chunk with two tasks
    ((chunk,),) = packer.take(last=True)
    assert (chunk.chunk, chunk.first_task, chunk.size) == (1, 1, 1)
