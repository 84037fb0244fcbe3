"""References to shared data in events: found wherever they stand, and nothing else is touched."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.shared_data.references import BadReference, find_references

DIGEST = "0123456789abcdef" * 4
FIELDS = {"sha256": DIGEST, "bytes": 3, "name": "curves.parquet", "folder": False}
REFERENCE = {"$data": FIELDS}


def replaced(event: bytes) -> bytes:
    found = find_references(event)
    return found.with_paths(lambda reference: f"/files/{reference.name}") if found else event


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (REFERENCE, "/files/curves.parquet"),
        ({"curves": REFERENCE}, {"curves": "/files/curves.parquet"}),
        ([{"a": {"b": REFERENCE}}, [REFERENCE]], [{"a": {"b": "/files/curves.parquet"}}, ["/files/curves.parquet"]]),
        ({"a": {"$data": FIELDS, "x": 1}}, {"a": {"$data": FIELDS, "x": 1}}),
        ({"a": {"x": 1, "$data": FIELDS}}, {"a": {"x": 1, "$data": FIELDS}}),
        ({"a": {"$data": REFERENCE, "x": 1}}, {"a": {"$data": "/files/curves.parquet", "x": 1}}),
        ({"a": "$data", "b": ["$data"]}, {"a": "$data", "b": ["$data"]}),
        ({"a": '{"$data": 1}', "b": REFERENCE}, {"a": '{"$data": 1}', "b": "/files/curves.parquet"}),
        ({"a": 'ends with "$data"'}, {"a": 'ends with "$data"'}),
        ({"a": "\\", "b": REFERENCE}, {"a": "\\", "b": "/files/curves.parquet"}),
        ({"x": {"$data": {**FIELDS, "of": "a later release"}}}, {"x": "/files/curves.parquet"}),
    ],
)  # fmt: skip
def test_a_reference_becomes_a_path_and_all_else_stays(event: Any, expected: Any) -> None:
    for text in (json.dumps(event), json.dumps(event, indent=3), json.dumps(event, separators=(",", ":"))):
        assert json.loads(replaced(text.encode())) == expected


def test_what_is_no_reference_stays_byte_by_byte() -> None:
    event = b'{"n": 1.000000000000000000001e400, "dup": 1, "dup": 2,\t"ref":%s, "e": "\\u00e9", "$data" : 7}' % (
        json.dumps(REFERENCE).encode()
    )
    before, _, after = event.partition(json.dumps(REFERENCE).encode())
    assert replaced(event) == before + b'"/files/curves.parquet"' + after


@pytest.mark.parametrize(
    "event", [b"not JSON", b'{"$data"', b'{"$data": ', b'{"$data": nonsense}', b'"$data" \xff', b"[" * 5000]
)
def test_what_is_no_json_is_left_to_the_runtime(event: bytes) -> None:
    assert find_references(event) is None


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (1, "$data"),
        (None, "$data"),
        ({}, "$data.sha256"),
        ([], "$data"),
        ({**FIELDS, "sha256": "A" * 64}, "$data.sha256"),
        ({**FIELDS, "bytes": -1}, "$data.bytes"),
        ({**FIELDS, "bytes": 1.5}, "$data.bytes"),
        ({**FIELDS, "bytes": 6 * 1024**3}, "$data.bytes"),
        ({**FIELDS, "name": "../secret"}, "$data.name"),
        ({**FIELDS, "name": ".."}, "$data.name"),
        ({**FIELDS, "name": ""}, "$data.name"),
        ({**FIELDS, "name": "x" * 256}, "$data.name"),
        ({**FIELDS, "name": "a\0b"}, "$data.name"),
        ({**FIELDS, "name": "\ud800"}, "$data.name"),
        ({**FIELDS, "folder": 1}, "$data.folder"),
        ({"$data": FIELDS}, "$data.sha256"),
    ],
)
def test_a_malformed_reference_is_said_in_a_sentence(value: Any, where: str) -> None:
    with pytest.raises(BadReference, match="malformed") as error:
        find_references(json.dumps({"x": {"$data": value}}).encode())
    assert f"at {where}:" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_event_full_of_objects_that_look_like_references_takes_no_long() -> None:
    # Read one in the other, this would take minutes.
    event = b'{"$data":' * 400_000
    began = time.process_time()
    assert find_references(event) is None
    deep = b'{"$data":[' * 150 + b"[" + b"0," * 1_000_000 + b"0]" + b"],0:0}" * 150
    assert find_references(deep) is None
    assert time.process_time() - began < 30


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["$data", '"$data"', '\\"$data": ']),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.just("$data"), inner).filter(lambda made: set(made) != {"$data"})
    ),
)


@given(JSON)
def test_json_without_references_is_never_changed(value: Any) -> None:
    event = json.dumps(value).encode()
    assert replaced(event) == event


@given(st.lists(JSON, min_size=1, max_size=4))
def test_references_among_any_json_are_found(values: list[Any]) -> None:
    event = [each for value in values for each in (value, REFERENCE)]
    expected = [each for value in values for each in (value, "/files/curves.parquet")]
    assert json.loads(replaced(json.dumps(event).encode())) == expected
