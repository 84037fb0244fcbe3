"""What the contracts refuse, and how bytes travel."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from htcgrid_events import (
    BUCKET_SIZE,
    INLINE_BYTES,
    MAX_CHUNKS_PER_REQUEST,
    MAX_STORED_BYTES,
    MAX_TASKS_PER_CHUNK,
    Account,
    AddChunks,
    ChunkInput,
    ChunkOutcome,
    CreateSession,
    OutcomeCode,
    SessionOptions,
    SessionSummary,
    Stages,
    UploadRequest,
    bucket_of,
    new_id,
    task_id,
)


def chunk(number: int = 0, size: int = 1) -> ChunkInput:
    return ChunkInput(chunk=number, first_task=number, size=size, inputs=b"x")


@given(st.binary(min_size=1, max_size=INLINE_BYTES))
def test_a_blob_is_bytes_in_python_and_base64_in_json(data: bytes) -> None:
    made = ChunkInput(chunk=0, first_task=0, size=1, inputs=data)
    assert made.inputs == data
    assert made.model_dump()["inputs"] == data
    document = made.model_dump_json()
    assert json.loads(document)["inputs"] == base64.b64encode(data).decode()
    assert ChunkInput.model_validate_json(document) == made


@pytest.mark.parametrize("text", ["no base64!", "YQ", "YQ==\n", "Y Q=="])
def test_a_blob_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is not base64"):
        ChunkInput.model_validate_json(json.dumps({"chunk": 0, "first_task": 0, "size": 1, "inputs": text}))


def test_inputs_lie_in_one_place_and_are_small_there() -> None:
    with pytest.raises(ValidationError, match="either inputs or stored_bytes"):
        ChunkInput(chunk=0, first_task=0, size=1)
    with pytest.raises(ValidationError, match="either inputs or stored_bytes"):
        ChunkInput(chunk=0, first_task=0, size=1, inputs=b"x", stored_bytes=1)
    with pytest.raises(ValidationError, match="to be uploaded first"):
        ChunkInput(chunk=0, first_task=0, size=1, inputs=b"x" * (INLINE_BYTES + 1))


def test_a_request_names_each_chunk_once_and_not_too_many() -> None:
    with pytest.raises(ValidationError, match="occurs twice"):
        AddChunks(chunks=(chunk(3), chunk(3)))
    most = tuple(chunk(number) for number in range(MAX_CHUNKS_PER_REQUEST))
    assert len(CreateSession(chunks=most).chunks) == MAX_CHUNKS_PER_REQUEST
    with pytest.raises(ValidationError, match="at most"):
        AddChunks(chunks=(*most, chunk(MAX_CHUNKS_PER_REQUEST)))
    with pytest.raises(ValidationError, match="at most"):
        UploadRequest(sizes=dict.fromkeys(range(BUCKET_SIZE + 1), 1))


@pytest.mark.parametrize("size", [0, MAX_TASKS_PER_CHUNK + 1])
def test_a_chunk_has_a_bounded_number_of_tasks(size: int) -> None:
    with pytest.raises(ValidationError, match="size"):
        chunk(size=size)


@pytest.mark.parametrize(
    "options",
    [
        {"partition": "Default"},
        {"partition": "-x"},
        {"priority": "urgent"},
        {"max_retries": -1},
        {"max_retries": 21},
        {"task_timeout_seconds": 0},
        {"task_timeout_seconds": 43_201},
        {"session_timeout_seconds": 0},
        {"session_timeout_seconds": 30 * 86_400 + 1},
    ],
)
def test_illegal_options_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        SessionOptions.model_validate(options)


@pytest.mark.parametrize("outcomes", ["", "Q", "CQ", "c"])
def test_a_finished_chunk_has_an_outcome_for_every_task(outcomes: str) -> None:
    with pytest.raises(ValidationError, match="outcomes"):
        ChunkOutcome(chunk=0, first_task=0, outcomes=outcomes, attempt=1, agent="a", stages=Stages())


@given(st.text("CFX", min_size=1, max_size=50))
def test_an_outcome_counts_each_task_once(outcomes: str) -> None:
    outcome = ChunkOutcome(chunk=0, first_task=0, outcomes=outcomes, attempt=1, agent="a", stages=Stages())
    counts = [outcome.count(code) for code in (OutcomeCode.COMPLETED, OutcomeCode.FAILED, OutcomeCode.CANCELLED)]
    assert sum(counts) == outcome.size == len(outcomes)
    assert Account(submitted=outcome.size, completed=counts[0], failed=counts[1], cancelled=counts[2]).closes


@given(st.integers(0, 10_000_000))
def test_a_bucket_holds_consecutive_chunks(number: int) -> None:
    assert bucket_of(number) * BUCKET_SIZE <= number < (bucket_of(number) + 1) * BUCKET_SIZE


def test_ids_are_told_apart() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in made)
    assert task_id("5e55", 7) == "5e55_7"


def test_times_of_a_session_are_moments_too() -> None:
    values = {"session_id": new_id(), "state": "COMPLETED", "created_at": 1795757195988, "deadline_at": 1795757195989}
    summary = SessionSummary.model_validate(values)
    assert summary.created == datetime(2026, 11, 27, 5, 26, 35, 988_000, tzinfo=UTC)
    assert (summary.deadline - summary.created) == timedelta(milliseconds=1)
    assert summary.ended is None
    assert SessionSummary.model_validate(values | {"ended_at": 0}).ended == datetime(1970, 1, 1, tzinfo=UTC)
    assert 'created"' not in summary.model_dump_json()


@pytest.mark.parametrize("size", [0, MAX_STORED_BYTES + 1])
def test_stored_inputs_have_a_bounded_size(size: int) -> None:
    with pytest.raises(ValidationError, match="stored_bytes"):
        ChunkInput(chunk=0, first_task=0, size=1, stored_bytes=size)
    with pytest.raises(ValidationError, match="sizes"):
        UploadRequest(sizes={0: size})


def test_the_store_of_inputs_is_said_where_it_is_not_s3() -> None:
    """A grid of before knows no such field, and refuses it."""
    chunk = ChunkInput(chunk=0, first_task=0, size=1, stored_bytes=9)
    assert chunk.store == "s3"
    assert '"store"' not in AddChunks(chunks=(chunk,)).to_json()
    elsewhere = chunk.model_copy(update={"store": "redis"})
    assert '"store":"redis"' in elsewhere.to_json()
    assert ChunkInput.model_validate_json(elsewhere.to_json()) == elsewhere


@pytest.mark.parametrize("store", ["", "a b", "/", "é", "s" * 65])
def test_the_name_of_a_store_is_a_short_word(store: str) -> None:
    with pytest.raises(ValidationError, match="store"):
        ChunkInput(chunk=0, first_task=0, size=1, stored_bytes=9, store=store)
