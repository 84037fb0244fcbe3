"""What the HTTP API answers to requests that it refuses before it asks AWS for anything."""

import base64
import importlib.util
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from htcgrid_controlplane import observability
from htcgrid_controlplane.errors import (
    DataBusy,
    DataConflict,
    DataInUse,
    DataMissing,
    DataNotFound,
    NotAllowed,
    QuotaExceeded,
)
from htcgrid_dataplane import StoreUnavailable
from htcgrid_events import MAX_STORED_BYTES

_APP = Path(__file__).resolve().parents[2] / "functions/sessions_api/app.py"

SESSION = f"/sessions/{7:032x}"
DATA = f"/data/{7:064x}"
BODIES = (
    ("PUT", DATA),
    ("PUT", SESSION),
    ("POST", f"{SESSION}/chunks"),
    ("POST", f"{SESSION}/uploads"),
    ("POST", f"{SESSION}/dead-letters/redrive"),
    ("POST", f"{SESSION}/dead-letters/purge"),
    ("POST", "/sessions/cancel"),
)
LAMBDA_BYTES = 6 * 1024 * 1024


@pytest.fixture(scope="module")
def api() -> Iterator[ModuleType]:
    """The function's module without a control plane: a request that gets further than its validation fails."""
    spec = importlib.util.spec_from_file_location("sessions_api_alone", _APP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
        patch.setattr(observability.metrics.provider, "namespace", "HTCGrid")
        patch.setattr(observability.metrics.provider, "service", "htcgrid")
        patch.setattr(observability, "control_plane", SimpleNamespace)
        spec.loader.exec_module(module)
        yield module


CONTEXT = SimpleNamespace(
    function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="r"
)  # fmt: skip


def event(
    method: str,
    path: str,
    body: str | bytes | None,
    content_type: str | None = "application/json",
    query: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A request as API Gateway hands it on."""
    return {
        "version": "2.0",
        "rawPath": path,
        "headers": {} if content_type is None else {"content-type": content_type},
        "queryStringParameters": query or {},
        "requestContext": {
            "http": {"method": method, "path": path},
            "stage": "$default",
            "authorizer": {"jwt": {"claims": {"sub": "tenant-1", "token_use": "id"}, "scopes": None}},
        },
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": isinstance(body, bytes),
    }


def ask(
    api: ModuleType,
    method: str,
    path: str,
    body: str | bytes | None = None,
    content_type: str | None = "application/json",
    query: dict[str, str] | None = None,
) -> tuple[int, dict[str, Any]]:
    """The status and the body of an answer."""
    answer = api.handler(event(method, path, body, content_type, query), CONTEXT)
    assert len(json.dumps(answer)) < 8_192
    return answer["statusCode"], json.loads(answer["body"])


def assert_refused(answer: tuple[int, dict[str, Any]], status: int, words: str) -> None:
    assert answer[0] == status
    assert answer[1].keys() == {"error", "message"}
    assert answer[1]["error"] == "InvalidRequest"
    assert words in answer[1]["message"]


@pytest.mark.parametrize("digits", [39, 5_000])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{SESSION}/chunks", '{"data": [%s]}'),
        (f"{SESSION}/chunks", '{"chunks": [{"chunk": 0, "size": 1, "inputs": "", "first_task": %s}]}'),
        (f"{SESSION}/chunks", '{"totals": {"chunks": 1, "tasks": %s}}'),
        (f"{SESSION}/dead-letters/redrive", '{"bucket": %s}'),
        (f"{SESSION}/dead-letters/redrive", '{"after": %s}'),
        (f"{SESSION}/dead-letters/redrive", '{"tasks": [%s]}'),
        (f"{SESSION}/dead-letters/redrive", '{"events": {"%s": "1"}}'),
        (f"{SESSION}/dead-letters/purge", '{"after": %s}'),
        (f"{SESSION}/uploads", '{"sizes": {"%s": 1}}'),
        (f"{SESSION}/uploads", '{"sizes": {"0": -%s}}'),
    ],
)
def test_an_integer_in_a_body_that_no_row_can_hold_is_refused(
    api: ModuleType, path: str, body: str, digits: int
) -> None:
    assert_refused(ask(api, "POST", path, body % ("9" * digits)), 422, "The request is not valid")


@pytest.mark.parametrize("digits", [39, 5_000])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/buckets/%s/chunks", ""),
        ("/buckets/%s/outcomes", ""),
        ("/buckets/0/chunks", "after"),
        ("/buckets/0/outcomes", "after"),
        ("/tasks/%s", ""),
        ("/tasks/%s/event", ""),
        ("/dead-letters", "bucket"),
        ("/dead-letters", "after"),
    ],
)
def test_an_integer_in_an_address_that_no_row_can_hold_is_refused(
    api: ModuleType, path: str, field: str, digits: int
) -> None:
    number = "9" * digits
    path = SESSION + path.replace("%s", number)
    assert_refused(ask(api, "GET", path, query={field: number} if field else None), 422, "The request is not valid")


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "application/xml", "é"]
)
@pytest.mark.parametrize(("method", "path"), BODIES)
def test_a_body_that_is_not_said_to_be_json_is_refused_in_the_shape_of_all_errors(
    api: ModuleType, method: str, path: str, content_type: str
) -> None:
    assert_refused(ask(api, method, path, "{}", content_type), 415, "application/json")


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json; charset=utf-16", "application/json;charset=latin-1", "application/jsonx"],
)
@pytest.mark.parametrize(("method", "path"), [*BODIES, ("POST", f"{SESSION}/pause"), ("GET", SESSION)])
def test_a_body_that_is_said_to_be_nothing_or_no_utf_8_is_refused(
    api: ModuleType, method: str, path: str, content_type: str | None
) -> None:
    assert_refused(ask(api, method, path, "{}", content_type), 415, "application/json")


@pytest.mark.parametrize(
    "content_type",
    [
        "APPLICATION/JSON",
        "Application/Json; Charset=UTF-8",
        'application/json; charset="utf-8"',
        " application/json ;charset=utf-8",
    ],
)
@pytest.mark.parametrize(("method", "path"), BODIES)
def test_capitals_and_quotes_of_a_content_type_mean_nothing(
    api: ModuleType, method: str, path: str, content_type: str
) -> None:
    # What is read is refused for a field, not for its type.
    assert_refused(ask(api, method, path, '{"colour": 1}', content_type), 422, "colour")


CHUNK = '{{"chunks": [{{"chunk": {}, "size": {}, "inputs": "", "first_task": {}}}]}}'


@pytest.mark.parametrize("value", ['"1"', "true", "1.0", "1e0", "null", "[1]"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{SESSION}/chunks", CHUNK.format("%s", 1, 1)),
        ("POST", f"{SESSION}/chunks", CHUNK.format(1, "%s", 1)),
        ("POST", f"{SESSION}/chunks", CHUNK.format(1, 1, "%s")),
        ("POST", f"{SESSION}/chunks", '{"totals": {"chunks": 1, "tasks": %s}}'),
        ("PUT", SESSION, '{"options": {"max_retries": %s}}'),
        ("PUT", DATA, '{"name": "curves", "bytes": %s}'),
        ("PUT", SESSION, '{"preload": [{"sha256": "", "name": "curves", "bytes": %s}]}'),
        ("PUT", SESSION, '{"options": {"task_timeout_seconds": %s}}'),
        ("POST", f"{SESSION}/dead-letters/redrive", '{"bucket": %s}'),
        ("POST", f"{SESSION}/dead-letters/redrive", '{"tasks": [%s]}'),
        ("POST", f"{SESSION}/dead-letters/purge", '{"after": %s}'),
        ("POST", f"{SESSION}/uploads", '{"sizes": {"0": %s}}'),
    ],
)
def test_what_only_looks_like_a_whole_number_is_none(
    api: ModuleType, method: str, path: str, body: str, value: str
) -> None:
    assert_refused(ask(api, method, path, body % value), 422, "integer")


@pytest.mark.parametrize("field", ["retry_factor", "max_failure_share", "publish_outcomes"])
@pytest.mark.parametrize("value", ['"1"', '"true"', "[]", "NaN"])
def test_what_only_looks_like_a_number_or_a_flag_is_none(api: ModuleType, field: str, value: str) -> None:
    assert_refused(ask(api, "PUT", SESSION, f'{{"options": {{"{field}": {value}}}}}'), 422, "")


@pytest.mark.parametrize(
    "index", ["+1", "01", "-0", " 1", "1_0", "1.0", "1e0", "\N{ARABIC-INDIC DIGIT ONE}", "0x1", ""]
)
def test_a_number_in_an_address_or_a_name_is_written_in_one_way(api: ModuleType, index: str) -> None:
    for field, path in (("after", "/buckets/0/chunks"), ("after", "/dead-letters"), ("bucket", "/dead-letters")):
        assert_refused(ask(api, "GET", f"{SESSION}{path}", query={field: index}), 422, field)
    assert_refused(ask(api, "POST", f"{SESSION}/uploads", json.dumps({"sizes": {index: 1}})), 422, "sizes")
    assert_refused(
        ask(api, "POST", f"{SESSION}/dead-letters/redrive", json.dumps({"events": {index: "1"}})), 422, "events"
    )
    if index:
        for path in ("/tasks/%s", "/tasks/%s/event", "/buckets/%s/chunks", "/buckets/%s/outcomes"):
            assert_refused(ask(api, "GET", SESSION + path.replace("%s", index)), 422, "path")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{SESSION}/chunks", '{"totals": {"chunks": 1, "tasks": 1}, "totals": {"chunks": 2, "tasks": 2}}'),
        ("POST", f"{SESSION}/chunks", '{"totals": {"chunks": 1, "tasks": 1, "tasks": 2}}'),
        ("PUT", SESSION, '{"options": {"priority": "low", "priority": "high"}}'),
        ("POST", f"{SESSION}/uploads", '{"sizes": {"0": 1, "0": 2}}'),
        ("POST", "/sessions/cancel", '{"session_ids": [], "session_ids": null}'),
        ("PUT", DATA, '{"bytes": 1, "name": "curves", "bytes": 2}'),
        ("PUT", SESSION, '{"preload": [{"bytes": 1, "bytes": 2}]}'),
    ],
)
def test_a_field_that_occurs_twice_is_refused(api: ModuleType, method: str, path: str, body: str) -> None:
    assert_refused(ask(api, method, path, body), 422, "occurs twice")


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", SESSION, {"colour": "red"}),
        ("GET", "/sessions", {"State": "OPEN"}),
        ("GET", f"{SESSION}/buckets/0/chunks", {"bucket": "0"}),
        ("GET", "/grid", {"": ""}),
        ("POST", f"{SESSION}/cancel", {"dry_run": "true"}),
        ("GET", f"{SESSION}/dead-letters", {"after": "1,2"}),
        ("GET", "/sessions", {"before": "a,b"}),
        ("GET", "/sessions", {"x" * 10_000: "1"}),
        ("GET", "/data", {"before": "a"}),
        ("GET", "/data", {"after": "a"}),
        ("GET", "/data", {"after": "A" * 64}),
        ("GET", DATA, {"force": "true"}),
        ("DELETE", DATA, {"force": "1"}),
        ("DELETE", DATA, {"force": ""}),
    ],
)
def test_a_parameter_that_a_route_does_not_know_or_that_comes_twice_is_refused(
    api: ModuleType, method: str, path: str, query: dict[str, str]
) -> None:
    assert_refused(ask(api, method, path, query=query), 422, "query.")


@pytest.mark.parametrize("use", ["access", "refresh", None])
def test_a_token_of_another_kind_is_refused_before_anything_is_read(api: ModuleType, use: str | None) -> None:
    asked = event("POST", f"{SESSION}/chunks", "{", "text/plain")
    claims = asked["requestContext"]["authorizer"]["jwt"]["claims"]
    claims |= {"token_use": use} if use else {}
    if use is None:
        del claims["token_use"]
    answer = api.handler(asked, CONTEXT)
    assert answer["statusCode"] == 401
    assert json.loads(answer["body"])["error"] == "WrongToken"


@pytest.mark.parametrize("body", ["{", "[" * 100_000, '"x"', "[]", "null", "NaN", b"\xff\xfe", b"{"])
@pytest.mark.parametrize(("method", "path"), [each for each in BODIES if each[1] != "/sessions/cancel"])
def test_a_body_that_is_no_request_is_refused(api: ModuleType, method: str, path: str, body: str | bytes) -> None:
    assert_refused(ask(api, method, path, body), 422, "")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{SESSION}/chunks", {f"unknown-{index}": 1 for index in range(150_000)}),
        (f"{SESSION}/chunks", {"x" * 3_000_000: 1}),
        (f"{SESSION}/chunks", {"chunks": [{}] * 50_000}),
        (f"{SESSION}/chunks", {"chunks": [{f"unknown-{index}": 1 for index in range(300)}] * 512}),
        (f"{SESSION}/uploads", {"sizes": dict.fromkeys(range(-150_000, 0), 1)}),
        (f"{SESSION}/dead-letters/redrive", {"events": dict.fromkeys(range(-150_000, 0), "1")}),
        (f"{SESSION}/dead-letters/redrive", {"tasks": ["x"] * 150_000}),
        ("/sessions/cancel", {"session_ids": ["x"] * 150_000}),
        (f"{SESSION}/chunks", {"data": ["0" * 64] * 50_000}),
        (f"{SESSION}/chunks", {"data": ["x" * 3_000_000]}),
        ("/sessions/cancel", {"session_ids": [{"x" * 3_000_000: 1}]}),
    ],
)
def test_an_answer_names_some_of_many_faults_and_stays_short(api: ModuleType, path: str, body: dict[str, Any]) -> None:
    text = json.dumps(body)
    assert len(text) < LAMBDA_BYTES
    status, answer = ask(api, "POST", path, text)
    assert (status, answer["error"]) == (422, "InvalidRequest")
    assert 1 <= answer["message"].count("body") <= 10


@pytest.mark.parametrize(
    "digest", ["a" * 63, "A" * 64, "a" * 65, "g" * 64, "a" * 3_000, "..", "%2e%2e", "a" * 64 + "%0A"]
)
def test_a_digest_that_is_none_is_refused(api: ModuleType, digest: str) -> None:
    for method, path, body in (
        ("PUT", f"/data/{digest}", '{"bytes": 1, "name": "curves"}'),
        ("POST", f"/data/{digest}/complete", None),
        ("GET", f"/data/{digest}", None),
        ("DELETE", f"/data/{digest}", None),
    ):
        status, answer = ask(api, method, path, body)
        assert status in (404, 422)
        assert answer["error"] in ("InvalidRequest", "NoSuchPath")
    assert_refused(ask(api, "PUT", SESSION, json.dumps({"data": [digest]})), 422, "data")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a/b"},
        {"name": ""},
        {"name": "x" * 1_000_000},
        {"name": "\0"},
        {"name": "\ud800"},
        {"bytes": 5 * 1024**3 + 1},
        {"bytes": -1},
        {"folder": "yes"},
        {"sha256": "0" * 64},
    ],
)
def test_shared_data_that_nobody_can_have_is_refused(api: ModuleType, body: dict[str, Any]) -> None:
    wanted = {"bytes": 1, "name": "curves", **body}
    assert_refused(ask(api, "PUT", DATA, json.dumps(wanted)), 422, next(iter(body)))
    if "sha256" not in body:
        preload = {"preload": [{"sha256": "0" * 64, **wanted}]}
        assert_refused(ask(api, "PUT", SESSION, json.dumps(preload)), 422, "preload")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", ["0" * 64, "0" * 64]),
        ("data", [f"{number:064x}" for number in range(101)]),
        ("data", {"0" * 64: 1}),
        ("data", "0" * 64),
        ("preload", [{"sha256": "0" * 64, "bytes": 1, "name": "curves"}] * 2),
        ("preload", [{"sha256": "0" * 64, "bytes": 1, "name": "curves", "colour": "red"}]),
        ("preload", [{"$data": {"sha256": "0" * 64, "bytes": 1, "name": "curves"}}]),
    ],
)
def test_references_of_a_session_are_few_and_distinct(api: ModuleType, field: str, value: Any) -> None:
    assert_refused(ask(api, "PUT", SESSION, json.dumps({field: value})), 422, field)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataMissing(["0" * 64]), 409),
        (DataConflict("The shared data is not uploaded."), 409),
        (DataInUse("Sessions refer to it."), 409),
        (DataNotFound("0" * 64), 404),
        (DataBusy("0" * 64), 503),
        (StoreUnavailable("S3 did not answer"), 503),
    ],
)
def test_what_is_wrong_with_shared_data_has_its_status(
    api: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(api, "grid", SimpleNamespace(shared_data=SimpleNamespace(get=refuse)))
    assert ask(api, "GET", DATA) == (status, {"error": type(error).__name__, "message": str(error)})


def test_a_request_above_a_quota_is_told_when_to_come_again(api: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise QuotaExceeded("You have 7 open sessions, which is your limit.", timedelta(milliseconds=1_200))

    monkeypatch.setattr(api, "grid", SimpleNamespace(submissions=SimpleNamespace(create=refuse)))
    answer: dict[str, Any] = api.handler(event("PUT", SESSION, "{}"), CONTEXT)
    assert answer["statusCode"] == 429
    assert answer["headers"]["Retry-After"] == "2"
    assert json.loads(answer["body"])["error"] == "QuotaExceeded"


def test_what_a_tenant_may_not_have_is_refused_for_good(api: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotAllowed("Your sessions may not have the priority high.")

    monkeypatch.setattr(api, "grid", SimpleNamespace(submissions=SimpleNamespace(create=refuse)))
    status, answer = ask(api, "PUT", SESSION, "{}")
    assert (status, answer["error"]) == (403, "NotAllowed")


PART = f"/payloads/{7:032x}/inputs/0"
PLACE = {"store": "redis", "size": "5", "offset": "0", "upload": "a" * 32}


@pytest.mark.parametrize("content_type", [None, "application/json", "application/zlib; charset=utf-8", "text/plain"])
def test_a_part_that_is_not_said_to_be_one_is_refused(api: ModuleType, content_type: str | None) -> None:
    assert_refused(ask(api, "PUT", PART, b"bytes", content_type, PLACE), 415, "application/zlib")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("size", "0", "query.size"), ("size", "+5", "query.size"), ("size", "1e3", "query.size"),
        ("size", str(MAX_STORED_BYTES + 1), "query.size"), ("offset", "-1", "query.offset"),
        ("offset", "00", "query.offset"), ("offset", "9" * 39, "query.offset"), ("upload", "A" * 32, "query.upload"),
        ("upload", "../x", "query.upload"), ("store", "../x", "query.store"), ("store", "", "query.store"),
        ("store", "a,b", "query.store"), ("tenant", "other", "query.tenant: there is no such parameter"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_part_is_read_strictly(api: ModuleType, name: str, value: str, words: str) -> None:
    query = {**PLACE, name: value}
    assert_refused(ask(api, "PUT", PART, b"bytes", "application/zlib", query), 422, words)
    if name != "upload":
        del query["upload"]
        assert_refused(ask(api, "GET", f"/payloads/{7:032x}/results/0.1", query=query), 422, words)


@pytest.mark.parametrize("missing", ["store", "size", "offset", "upload"])
def test_nothing_that_a_part_needs_is_guessed(api: ModuleType, missing: str) -> None:
    query = {name: value for name, value in PLACE.items() if name != missing}
    assert_refused(ask(api, "PUT", PART, b"bytes", "application/zlib", query), 422, f"query.{missing}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"/payloads/{7:032x}/results/0"), ("PUT", f"/payloads/{7:032x}/inputs/0/more"), ("PUT", "/payloads/"),
        ("GET", f"/payloads/{7:032x}"), ("POST", PART), ("DELETE", PART),
    ],
)  # fmt: skip
def test_there_is_no_other_way_to_payloads(api: ModuleType, method: str, path: str) -> None:
    status, answer = ask(api, method, path, b"bytes" if method == "PUT" else None, "application/zlib")
    assert (status, answer["error"]) == (404, "NoSuchPath")


@pytest.mark.parametrize(
    "place",
    [
        "/payloads/other/inputs/0", f"/payloads/{7:032x}/secrets/0", f"/payloads/{7:032x}/inputs/x",
        f"/payloads/{7:032x}/inputs/..", f"/payloads/{7:032x}/inputs/0.", f"/payloads/{7:032x}/inputs/00",
        f"/payloads/{7:032x}/results/0.1.2", f"/payloads/{7:032x}/results/{'1' * 8}", f"/payloads/{7:032x}/inputs/0.G",
    ],
)  # fmt: skip
def test_a_name_that_no_payload_has_is_refused(api: ModuleType, place: str) -> None:
    query = {name: PLACE[name] for name in ("store", "size")}
    assert_refused(ask(api, "GET", place, query=query), 422, "path.")


def test_parts_are_bytes_both_ways(api: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """API Gateway hands them on in base64."""
    part, taken = bytes(range(256)), []

    class Relay:
        def read(self, *place: object) -> bytes:
            return part

        def write(self, *place: object) -> None:
            taken.append(place[-1])

    monkeypatch.setattr(api.grid, "relay", Relay(), raising=False)
    answer = api.handler(event("PUT", PART, part, "application/zlib", PLACE), CONTEXT)
    assert (answer["statusCode"], answer["body"], taken) == (204, "", [part])
    query = {name: PLACE[name] for name in ("store", "size")}
    answer = api.handler(event("GET", f"/payloads/{7:032x}/results/0.1", None, None, query), CONTEXT)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    assert answer["headers"]["Content-Type"] == "application/zlib"
    assert base64.b64decode(answer["body"]) == part
