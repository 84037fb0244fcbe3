"""The schemas are in step with the models, and one sample of each contract satisfies both."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

import htcgrid_events
from htcgrid_events import BUS_EVENTS, PUSH_FRAME, SESSION_ENDED, Contract, Request
from htcgrid_events.schemas import CONTRACTS, schema_text, write_schemas

FOLDER = Path(__file__).resolve().parents[1]
NAMES = sorted(CONTRACTS)


def sample(name: str) -> Any:
    return json.loads((FOLDER / f"samples/{name}.json").read_text(encoding="utf-8"))


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"schemas/{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def models() -> Iterator[type[Contract]]:
    exported = (getattr(htcgrid_events, name) for name in htcgrid_events.__all__)
    return (each for each in exported if isinstance(each, type) and issubclass(each, Contract) and each is not Contract)


@pytest.mark.parametrize("folder", ["schemas", "samples"])
def test_each_contract_has_its_file_and_no_other_file_lies_beside(folder: str) -> None:
    assert sorted(file.name for file in (FOLDER / folder).iterdir()) == [f"{name}.json" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_in_step_with_its_model(name: str) -> None:
    written = (FOLDER / f"schemas/{name}.json").read_text(encoding="utf-8")
    assert written == schema_text(name), "run `python -m htcgrid_events.schemas`"


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_satisfies_its_schema_and_its_model_and_survives_both_ways(name: str) -> None:
    validator(name).validate(sample(name))
    contract = CONTRACTS[name].model_validate_json(json.dumps(sample(name)))
    again = contract.model_dump_json()
    validator(name).validate(json.loads(again))
    assert CONTRACTS[name].model_validate_json(again) == contract


REQUESTS = [name for name in NAMES if issubclass(CONTRACTS[name], Request)]


def test_requests_are_what_clients_send_to_the_api() -> None:
    names = ("AddChunks", "CancelSessions", "CreateSession", "PurgeTasks", "PutData", "RedriveTasks", "UploadRequest")
    assert [f"api.{name}" for name in names] == REQUESTS


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_with_an_unknown_field_is_refused(name: str) -> None:
    for more in with_a_field_more(sample(name)):
        with pytest.raises(ValidationError, match="surprise"):
            CONTRACTS[name].model_validate_json(json.dumps(more))
    assert not validator(name).is_valid({**sample(name), "surprise": 1})


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(REQUESTS)))
def test_everything_else_is_read_without_the_fields_that_its_reader_does_not_know(name: str) -> None:
    contract = CONTRACTS[name].model_validate_json(json.dumps(sample(name)))
    for more in with_a_field_more(sample(name)):
        validator(name).validate(more)
        assert CONTRACTS[name].model_validate_json(json.dumps(more)) == contract


def with_a_field_more(value: Any) -> Iterator[Any]:
    """The sample with an unknown field in one of its objects, for each of them. Maps by numbers have no fields."""
    if isinstance(value, dict):
        if not any(key.isdecimal() for key in value):
            yield {**value, "surprise": 1}
        for key, inner in value.items():
            # Tables of free names: chunk numbers to URLs, headers.
            if key not in ("headers", "urls", "events", "sizes"):
                yield from ({**value, key: more} for more in with_a_field_more(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], more, *value[place + 1 :]] for more in with_a_field_more(inner))


@pytest.mark.parametrize("name", NAMES)
def test_schema_and_model_agree_on_which_fields_may_be_missing(name: str) -> None:
    whole = sample(name)
    for field in whole:
        part = {key: value for key, value in whole.items() if key != field}
        try:
            CONTRACTS[name].model_validate_json(json.dumps(part))
        except ValidationError:
            accepted = False
        else:
            accepted = True
        assert validator(name).is_valid(part) is accepted, field


def test_no_contract_is_without_a_schema() -> None:
    covered = set(CONTRACTS.values())
    inside = {name for model in covered for name in model.model_json_schema().get("$defs", {})}
    uncovered = [model for model in models() if model not in covered and model.__name__ not in inside]
    assert [model.__name__ for model in uncovered if not any(issubclass(each, model) for each in covered)] == []


def test_every_detail_type_of_the_bus_has_a_schema_of_its_own() -> None:
    assert {f"bus.{name.replace(' ', '')}": model for name, model in BUS_EVENTS.items()} == {
        name: model for name, model in CONTRACTS.items() if name.startswith("bus.")
    }


def test_the_event_of_a_verdict_says_the_verdict() -> None:
    assert {state for state in htcgrid_events.SessionState if state.ended} == set(SESSION_ENDED)
    for state, event in SESSION_ENDED.items():
        assert BUS_EVENTS[event.detail_type] is event
        ended = event.model_validate_json(json.dumps(sample(f"bus.{event.detail_type.replace(' ', '')}")))
        assert ended.state is state
        assert ended.account.closes


@pytest.mark.parametrize("name", ["push.ChunksFrame", "push.SessionEndedFrame", "push.PongFrame"])
def test_a_pushed_frame_is_told_by_its_kind(name: str) -> None:
    assert type(PUSH_FRAME.validate_json(json.dumps(sample(name)))) is CONTRACTS[name]


def test_writing_replaces_stale_files(tmp_path: Path) -> None:
    (tmp_path / "bus.Gone.json").write_text("{}")
    (tmp_path / "api.ErrorBody.json").write_text("{}")
    write_schemas(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{name}.json" for name in NAMES]
    assert (tmp_path / "api.ErrorBody.json").read_text() == schema_text("api.ErrorBody")
