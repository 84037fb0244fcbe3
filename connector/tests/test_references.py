"""References to shared data in tasks: which are found, which are refused, and how chunks and batches are cut."""

import hashlib
import json
import pickle
from typing import Any

import pytest
from connector.tests.stub_grid import StubGrid

from htcgrid import DataMissing, Grid, InvalidTask, SharedData
from htcgrid._submit.encoding import Encoder
from htcgrid._submit.packing import EncodedChunk
from htcgrid._submit.references import references_of
from htcgrid_events import MAX_DATA_PER_REQUEST, DataReference


def reference(number: int = 0, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return {"$data": {"sha256": digest, "bytes": number, "name": f"data-{number}", "folder": False} | changes}


def digest(number: int) -> str:
    found: str = reference(number)["$data"]["sha256"]
    return found


def found_in(event: Any) -> set[str]:
    return set(references_of(json.dumps(event, separators=(",", ":")).encode(), 0))


def test_references_are_found_wherever_they_stand() -> None:
    assert found_in(reference(1)) == {digest(1)}
    assert found_in({"a": reference(1), "b": [{"c": [reference(2), reference(1)]}]}) == {digest(1), digest(2)}


@pytest.mark.parametrize(
    "event",
    [
        1,
        {"data": reference()["$data"]},
        json.dumps(reference()),
        [json.dumps(reference(), separators=(",", ":"))],
        reference() | {"more": 1},
        {"$data": 5, "more": 1},
        "$data",
    ],
)
def test_what_is_no_reference_is_data_of_the_task(event: Any) -> None:
    assert found_in(event) == set()


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"sha256": "0" * 63}, "$data.sha256"),
        ({"sha256": "A" * 64}, "$data.sha256"),
        ({"bytes": -1}, "$data.bytes"),
        ({"bytes": "many"}, "$data.bytes"),
        ({"name": ""}, "$data.name"),
        ({"name": "../x"}, "$data.name"),
        ({"folder": "perhaps"}, "$data.folder"),
    ],
)
def test_a_reference_that_is_wrong_in_a_field_is_refused(wrong: dict[str, Any], place: str) -> None:
    line = json.dumps([reference(3, **wrong)], separators=(",", ":")).encode()
    with pytest.raises(InvalidTask) as refused:
        references_of(line, 7)
    assert place in str(refused.value)
    assert "task 7 " in str(refused.value)


@pytest.mark.parametrize("value", [None, "curves", [], {}])
def test_what_is_no_object_is_no_reference(grid: Grid, stub: StubGrid, value: Any) -> None:
    with pytest.raises(InvalidTask, match="refers to shared data by what is no reference"):
        grid.submit([{"curves": {"$data": value}}])
    assert stub.sessions == {}


def test_a_task_refers_to_a_hundred_at_most() -> None:
    most = [reference(number) for number in range(MAX_DATA_PER_REQUEST)]
    assert len(found_in([most, most])) == MAX_DATA_PER_REQUEST
    with pytest.raises(InvalidTask, match="refers to 101 shared data"):
        found_in([*most, reference(MAX_DATA_PER_REQUEST)])


def cut(events: list[Any], chunk_size: int | None) -> list[list[EncodedChunk]]:
    return Encoder().encode(events, chunk_size)


def data_of(chunks: list[EncodedChunk]) -> set[str]:
    return {reference.sha256 for chunk in chunks for reference in chunk.data}


def test_a_chunk_whose_tasks_refer_to_more_is_cut_before_and_always_alike() -> None:
    events = [[reference(60 * task + number) for number in range(60)] for task in range(5)]
    batches = cut(events, 10)
    assert [[chunk.size for chunk in batch] for batch in batches] == [[1], [1], [1], [1], [1]]
    assert batches == cut(events, 10)
    same = [[reference(number) for number in range(60)] for _ in range(5)]
    assert [[chunk.size for chunk in batch] for batch in cut(same, 10)] == [[5]]


def test_a_batch_whose_chunks_refer_to_more_is_cut_before() -> None:
    events = [reference(number) for number in range(250)]
    batches = cut(events, 1)
    assert [len(batch) for batch in batches] == [100, 28, 100, 22]  # after 128 chunks the next bucket begins
    assert [len(data_of(batch)) for batch in batches] == [100, 28, 100, 22]
    assert batches == cut(events, 1)
    assert [chunk.chunk for batch in batches for chunk in batch] == list(range(250))


def test_tasks_without_references_are_cut_as_ever() -> None:
    events = [{"number": number} for number in range(5_000)]
    batches = cut(events, 7)
    assert {chunk.size for batch in batches for chunk in batch[:-1]} == {7}
    assert all(chunk.data == () for batch in batches for chunk in batch)
    assert [chunk.inputs for batch in batches for chunk in batch] == [
        chunk.inputs for batch in cut([each | {} for each in events], 7) for chunk in batch
    ]


def test_fields_for_shared_data_are_sent_only_where_there_is_some(grid: Grid, stub: StubGrid) -> None:
    grid.submit([1, 2], chunk_size=1, preload=True)
    assert stub.data.named == [{}]
    data = grid.put(b"curves")
    grid.submit([{"curves": data}, {"curves": data}], chunk_size=1)
    assert stub.data.named[1:] == [{"data": [data.sha256]}]


def test_what_the_first_tasks_refer_to_is_preloaded_once(grid: Grid, stub: StubGrid) -> None:
    first, second = grid.put(b"first", name="first.bin"), grid.put(b"second")
    with grid.open_session() as session:
        session.add([first])
    grid.submit([second])
    grid.submit([first, [second, first]], chunk_size=1, preload=True)
    assert all("preload" not in named for named in stub.data.named[:-1])
    told = stub.data.named[-1]
    assert set(told["data"]) == {first.sha256, second.sha256}
    assert [DataReference.model_validate(each).in_event() for each in told["preload"]] == [first, second]


def test_data_that_is_missing_is_told_and_nothing_is_submitted(grid: Grid, stub: StubGrid) -> None:
    with pytest.raises(DataMissing) as refused:
        grid.submit([reference()])
    assert (refused.value.status, refused.value.reason) == (409, "DataMissing")
    assert stub.sessions == {}


def test_a_session_takes_tasks_after_a_wrong_reference(grid: Grid, stub: StubGrid) -> None:
    with grid.open_session() as session:
        session.add([1])
        with pytest.raises(InvalidTask, match="no reference"):
            session.add([2, {"$data": {"sha256": "short"}}])
        session.add([3])
    stub.run(session.id, lambda event: event)
    assert session.results(timeout=60) == [1, 3]


def test_a_reference_is_json_and_can_be_pickled(grid: Grid) -> None:
    data = grid.put(b"curves", name="curves.bin")
    assert json.loads(json.dumps(data)) == reference(0, sha256=data.sha256, bytes=6, name="curves.bin")
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own
    assert isinstance(again, SharedData)
    assert (again, again.name, again.bytes, again.folder) == (data, "curves.bin", 6, False)
    assert repr(again) == f"<SharedData file 'curves.bin', 6 bytes, {data.sha256[:8]}>"
