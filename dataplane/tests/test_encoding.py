"""Payloads come back as they were, and what is no payload is refused before it fills the memory."""

import base64
import json
import os
import random
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import HOSTILE, MIB, at_most, bomb

from htcgrid_dataplane import (
    MAX_ENCODED_BYTES,
    MAX_EXPANDED_BYTES,
    PayloadCorrupt,
    PayloadTooLarge,
    decode_lines,
    decoded_size,
    encode_lines,
    encoding,
    input_key,
    iterate_lines,
    pick_lines,
    result_key,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(values, min_size=1, max_size=20))
def test_json_lines_come_back_as_they_were(events: list[object]) -> None:
    lines = [json.dumps(event).encode() for event in events]
    assert decode_lines(encode_lines(lines), len(lines)) == lines


@given(st.lists(st.just(b""), min_size=1, max_size=20))
def test_cancelled_tasks_have_empty_lines(lines: list[bytes]) -> None:
    assert decode_lines(encode_lines(lines), len(lines)) == lines


def test_a_text_with_a_newline_is_no_line() -> None:
    with pytest.raises(ValueError, match="newline"):
        encode_lines([json.dumps({"a": 1}, indent=1).encode()])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_lines_is_refused(count: int) -> None:
    with pytest.raises(PayloadCorrupt, match=f"{count} "):
        decode_lines(encode_lines([b"1", b"2"]), count)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    try:
        decode_lines(noise, 1)
    except PayloadCorrupt:
        return
    assert zlib.decompress(noise).count(b"\n") == 0


@given(st.integers(1, 30))
def test_a_payload_that_was_cut_short_is_refused(missing: int) -> None:
    data = encode_lines([b'"a long enough line of json"', b"2"])
    with pytest.raises(PayloadCorrupt):
        decode_lines(data[:-missing], 2)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_EXPANDED_BYTES", 1000)
    assert decode_lines(encode_lines([b"0" * 999]), 1) == [b"0" * 999]
    with pytest.raises(PayloadCorrupt, match="expands"):
        decode_lines(zlib.compress(b"0" * 100_000), 1)


READERS: dict[str, Callable[[bytes], object]] = {
    "decode": lambda data: decode_lines(data, 2),
    "iterate": lambda data: sum(1 for _ in iterate_lines([data], 2)),
    "pick": lambda data: pick_lines([data], 2, [1]),
    "size": lambda data: decoded_size(data, 2),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("data", [*HOSTILE, "nothing"])
def test_a_hostile_payload_is_refused_by_a_sentence_in_little_memory(reader: str, data: str) -> None:
    with at_most(16 * MIB), pytest.raises(PayloadCorrupt, match=r"^a payload \w+ .*") as refusal:
        READERS[reader](HOSTILE.get(data, b""))
    assert not refusal.value.retryable
    assert len(str(refusal.value)) < 200


def test_the_lines_of_a_payload_are_not_in_memory_beside_its_text() -> None:
    data = bomb(b"0", 64 * MIB)
    with at_most(2 * 64 * MIB + 16 * MIB):  # a line is joined of its blocks
        assert [len(line) for line in decode_lines(data, 1)] == [64 * MIB]
    data = bomb(b"0" * (MIB - 1) + b"\n", 64 * MIB)
    with at_most(64 * MIB + 16 * MIB):
        assert len(decode_lines(data, 65)) == 65


def test_what_is_not_kept_takes_no_memory() -> None:
    data = bomb(b"0" * (MIB - 1) + b"\n", 64 * MIB)
    with at_most(8 * MIB):
        assert sum(map(len, iterate_lines([data], 65))) == 64 * (MIB - 1)
        assert [len(line) for line in pick_lines([data], 65, [0, 63]).values()] == [MIB - 1] * 2
        assert 64 * MIB <= decoded_size(data, 65) + 1 <= 65 * MIB
        assert len(encode_lines(line for line in iterate_lines([data], 65))) < MIB


def test_no_more_is_read_than_the_lines_that_are_asked_for() -> None:
    data = encode_lines([b'"%d"' % number for number in range(100_000)])
    parts = iter([data[:1000], b"what follows is not even zlib data"])
    assert pick_lines(parts, 100_000, [0]) == {0: b'"0"'}
    assert list(parts)


@given(st.integers(1, 50), st.randoms(use_true_random=False))
def test_lines_come_back_from_parts_and_blocks_of_any_size(part: int, dice: random.Random) -> None:
    lines = [dice.randbytes(dice.randrange(40)).replace(b"\n", b"") for _ in range(40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BLOCK", dice.randrange(1, 30))
        data = encode_lines(lines)
        parts = [data[at : at + part] for at in range(0, len(data), part)]
        assert list(iterate_lines(parts, 40)) == lines
        assert pick_lines(parts, 40, [39, 3]) == {3: lines[3], 39: lines[39]}
        with pytest.raises(PayloadCorrupt):
            list(iterate_lines([*parts, b"x"], 40))
    assert decode_lines(zlib.compress(b"\n".join(lines)), 40) == lines


def test_no_two_payloads_share_a_key() -> None:
    keys = {input_key("t", "s", 1), input_key("u", "s", 1), input_key("t", "s", 11)}
    keys |= {result_key("t", "s", 1, 1), result_key("t", "s", 1, 2), result_key("t", "s", 11, 1)}
    assert len(keys) == 6


def test_what_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("htcgrid_dataplane.encoding.MAX_EXPANDED_BYTES", 100)
    assert len(decode_lines(encode_lines([b"x" * 49, b"y" * 49]), 2)) == 2
    with pytest.raises(PayloadTooLarge, match="more than 100 bytes"):
        encode_lines([b"x" * 50, b"y" * 50])


@given(st.binary(max_size=200_000))
def test_encoding_adds_a_bounded_share(data: bytes) -> None:
    line = data.replace(b"\n", b"")
    assert len(encode_lines([line])) <= len(line) + len(line) // 256 + 64


def test_the_bound_of_what_is_read_leaves_room_for_that_share() -> None:
    assert MAX_EXPANDED_BYTES + MAX_EXPANDED_BYTES // 256 <= MAX_ENCODED_BYTES


def test_zlib_is_given_no_byte_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # It copies what it has not used yet for every block: a large payload in one piece would be copied a thousand times.
    given = 0

    class Counting:
        def __init__(self) -> None:
            self._decoder = zlib.decompressobj()

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal given
            given += len(data)
            return self._decoder.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._decoder, name)

    lines = [random.Random(1).randbytes(8 * MIB).replace(b"\n", b"")]
    data = encode_lines(lines)
    monkeypatch.setattr(encoding, "zlib", SimpleNamespace(decompressobj=Counting, error=zlib.error))
    assert decode_lines(data, 1) == lines
    assert given < 2 * len(data)


@pytest.mark.parametrize(
    ("line", "compressed"),
    [
        (base64.b64encode(os.urandom(3_000_000)), False),
        (os.urandom(2_000_000).hex().encode(), True),
        (b'{"a": 1}' * 500_000, True),
        (base64.b64encode(os.urandom(30_000)), True),
    ],
)
def test_what_is_large_and_hardly_becomes_smaller_is_stored_as_it_is(line: bytes, compressed: bool) -> None:
    lines = [b"1", line, b"2"]
    data = encode_lines(lines)
    size = sum(map(len, lines))
    assert (len(data) < 0.8 * size) == compressed
    assert len(data) < 1.001 * size
    assert decode_lines(data, 3) == lines
    assert zlib.decompress(data) == b"\n".join(lines)
