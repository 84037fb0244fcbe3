"""How events refer to shared data, and what of it is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from htcgrid_events import (
    MAX_DATA_BYTES,
    MAX_DATA_PER_REQUEST,
    AddChunks,
    CreateSession,
    DataRecord,
    DataReference,
    DataState,
    PutData,
)

DIGEST = "0" * 63 + "a"
REFERENCE = {"sha256": DIGEST, "bytes": 7, "name": "curves.parquet", "folder": False}


def digests(many: int) -> list[str]:
    return [f"{number:064x}" for number in range(many)]


def test_a_reference_is_json_in_an_event_and_back() -> None:
    made = DataReference.model_validate(REFERENCE)
    event = json.loads(json.dumps({"curves": made.in_event()}))
    assert event == {"curves": {"$data": REFERENCE}}
    assert DataReference.model_validate(event["curves"]["$data"]) == made


@pytest.mark.parametrize(
    "sha256", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "../" + "a" * 61, 7, None]
)
def test_a_digest_has_64_lower_case_digits(sha256: Any) -> None:
    with pytest.raises(ValidationError, match="sha256"):
        DataReference.model_validate(REFERENCE | {"sha256": sha256})


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "a\0",
        "a\n",
        "\x1b[0m",
        "\N{RIGHT-TO-LEFT OVERRIDE}a",
        "\ud800",
        "x" * 256,
        "é" * 128,
        7,
        None,
    ],
)
def test_a_name_is_that_of_a_file(name: Any) -> None:
    for model, value in ((DataReference, REFERENCE), (PutData, {"bytes": 7})):
        with pytest.raises(ValidationError, match="name"):
            model.model_validate(value | {"name": name})


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "...", ".hidden", "a b", "-rf", "曲线.parquet", "a\\b"])
def test_whatever_else_a_file_may_be_called_is_a_name(name: str) -> None:
    assert DataReference.model_validate_json(json.dumps(REFERENCE | {"name": name})).name == name


@pytest.mark.parametrize("size", [-1, MAX_DATA_BYTES + 1, "7", 7.0, True, None, 10**40])
def test_a_size_is_a_whole_number_within_bounds(size: Any) -> None:
    with pytest.raises(ValidationError, match="bytes"):
        DataReference.model_validate(REFERENCE | {"bytes": size})


@pytest.mark.parametrize("folder", ["true", 1, None])
def test_a_folder_is_told_by_true_or_false(folder: Any) -> None:
    with pytest.raises(ValidationError, match="folder"):
        DataReference.model_validate(REFERENCE | {"folder": folder})


def test_a_request_names_each_data_once_and_not_too_many() -> None:
    most = digests(MAX_DATA_PER_REQUEST)
    assert AddChunks.model_validate({"data": most}).all_data == set(most)
    with pytest.raises(ValidationError, match="at most"):
        AddChunks.model_validate({"data": digests(MAX_DATA_PER_REQUEST + 1)})
    with pytest.raises(ValidationError, match="occurs twice"):
        AddChunks.model_validate({"data": [DIGEST, DIGEST]})
    with pytest.raises(ValidationError, match="occurs twice"):
        CreateSession.model_validate({"preload": [REFERENCE, REFERENCE]})
    with pytest.raises(ValidationError, match="at most"):
        CreateSession.model_validate(
            {"preload": [REFERENCE | {"sha256": digest} for digest in digests(MAX_DATA_PER_REQUEST + 1)]}
        )


def test_data_and_preload_are_bounded_together() -> None:
    most = digests(MAX_DATA_PER_REQUEST)
    assert CreateSession.model_validate({"data": most, "preload": [REFERENCE | {"sha256": most[0]}]}).all_data == set(
        most
    )
    with pytest.raises(ValidationError, match="together"):
        CreateSession.model_validate({"data": most, "preload": [REFERENCE | {"sha256": "f" * 64}]})


def test_a_record_tells_what_it_is_without_its_link() -> None:
    record = DataRecord(
        reference=DataReference.model_validate(REFERENCE),
        state=DataState.THERE,
        created_at=1,
        expires_at=2,
        url="https://secret",
    )
    assert "file curves.parquet THERE, 7 bytes" in str(record)
    assert "secret" not in str(record) + record._repr_html_()
