"""Payloads come back as they were, and what is no payload is refused before it fills the memory."""

import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_dataplane import (
    MAX_ENCODED_BYTES,
    MAX_EXPANDED_BYTES,
    PayloadCorrupt,
    PayloadTooLarge,
    decode_lines,
    encode_lines,
    encoding,
    input_key,
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
    with pytest.raises(PayloadCorrupt, match="2 lines"):
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


def test_a_bomb_of_newlines_is_refused_before_it_is_cut_into_lines() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PayloadCorrupt, match="holds 20000001 lines"):
            decode_lines(zlib.compress(b"\n" * 20_000_000, level=1), 2)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_no_two_payloads_share_a_key() -> None:
    keys = {input_key("t", "s", 1), input_key("u", "s", 1), input_key("t", "s", 11)}
    keys |= {result_key("t", "s", 1, 1), result_key("t", "s", 1, 2), result_key("t", "s", 11, 1)}
    assert len(keys) == 6


def test_what_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("htcgrid_dataplane.encoding.MAX_EXPANDED_BYTES", 100)
    assert len(decode_lines(encode_lines([b"x" * 49, b"y" * 49]), 2)) == 2
    with pytest.raises(PayloadTooLarge, match="102 bytes"):
        encode_lines([b"x" * 50, b"y" * 50])


@given(st.binary(max_size=200_000))
def test_encoding_adds_a_bounded_share(data: bytes) -> None:
    line = data.replace(b"\n", b"")
    assert len(encode_lines([line])) <= len(line) + len(line) // 256 + 64


def test_the_bound_of_what_is_read_leaves_room_for_that_share() -> None:
    assert MAX_EXPANDED_BYTES + MAX_EXPANDED_BYTES // 256 <= MAX_ENCODED_BYTES
