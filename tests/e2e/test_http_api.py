"""The HTTP API under requests that nobody would make: right and wrong ones, drawn from its own description."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from websockets.sync.client import connect

from htcgrid import Grid
from htcgrid_events import PingFrame, PongFrame
from htcgrid_local import LocalGrid

pytestmark = pytest.mark.grid

SCHEMA = schemathesis.openapi.from_path(Path(__file__).resolve().parents[2] / "docs/openapi.json")
OPERATIONS = [result.ok() for result in cast("Iterator[Ok[Any]]", SCHEMA.get_all_operations())]
schemathesis.serializer.alias("application/zlib", "application/octet-stream")
REQUESTS = 10
"""Of each kind to each operation."""
drawn = settings(
    max_examples=REQUESTS,
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Api:
    """Where to ask, who asks, and a session that he has."""

    url: str
    headers: dict[str, str]
    session_id: str


@pytest.fixture(scope="module")
def api(local_grid: LocalGrid) -> Iterator[Api]:
    """The API for a user of its own, whose sessions are over afterwards."""
    profile = local_grid.add_user("drawn")
    assert profile.password is not None
    signed_in = local_grid.client("cognito-idp").initiate_auth(
        ClientId=profile.user_pool_client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": profile.username, "PASSWORD": profile.password.get_secret_value()},
    )
    headers = {"authorization": f"Bearer {signed_in['AuthenticationResult']['IdToken']}"}
    with Grid.connect(profile) as grid:
        session = grid.submit([{"value": 1}, {"do": "raise", "message": "no such curve"}], max_retries=0)
        session.wait(timeout=60)
        yield Api(profile.api_url, headers, session.id)
        grid.cancel(None)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@drawn
@given(data=st.data())
def test_no_request_as_described_breaks_it(api: Api, operation: Any, data: st.DataObject) -> None:
    case = data.draw(operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    if "session_id" in case.path_parameters and data.draw(st.booleans()):
        case.path_parameters["session_id"] = api.session_id
    response = case.call(base_url=api.url, headers=api.headers)
    case.validate_response(response, checks=[not_a_server_error, response_schema_conformance, status_code_conformance])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@drawn
@given(data=st.data())
def test_no_other_request_breaks_it(api: Api, operation: Any, data: st.DataObject) -> None:
    case = data.draw(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    response = case.call(base_url=api.url, headers=api.headers)
    case.validate_response(response, checks=[not_a_server_error])
    # API Gateway itself answers where a path is none of the API's, with a message alone.
    assert response.status_code < 400 or response.json().keys() in ({"error", "message"}, {"message"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/buckets/{many}/outcomes"),
        ("GET", "/buckets/0/chunks?after={many}"),
        ("GET", "/tasks/{many}"),
        ("GET", "/dead-letters?bucket={many}"),
        ("POST", "/chunks"),
    ],
)
def test_a_number_of_thousands_of_digits_is_refused(api: Api, method: str, path: str) -> None:
    many = "9" * 5_000
    body = f'{{"chunks": [{{"chunk": 0, "size": 1, "inputs": "", "first_task": {many}}}]}}'
    url = f"{api.url}/sessions/{api.session_id}{path.format(many=many)}"
    headers = {**api.headers, "content-type": "application/json"}
    answer = httpx.request(method, url, headers=headers, content=body if method == "POST" else None, timeout=30)
    assert answer.status_code == 422
    assert answer.json()["error"] == "InvalidRequest"


def test_what_is_not_said_to_be_json_is_refused(api: Api) -> None:
    headers = {**api.headers, "content-type": "multipart/form-data"}
    answer = httpx.post(f"{api.url}/sessions/{api.session_id}/chunks", headers=headers, content=b"{}", timeout=30)
    assert answer.status_code == 415
    assert answer.json()["error"] == "InvalidRequest"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}" * 10, b"[" * 5000])
def test_a_body_that_is_no_request_is_refused(api: Api, body: bytes) -> None:
    for path in (f"/sessions/{api.session_id}/chunks", "/sessions/cancel", f"/sessions/{api.session_id}/uploads"):
        headers = {**api.headers, "content-type": "application/json"}
        answer = httpx.post(api.url + path, headers=headers, content=body, timeout=30)
        if path == "/sessions/cancel" and answer.status_code == 202:
            continue  # to name no session is a request
        assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text)
        assert json.loads(answer.content)["message"]


def test_without_a_token_nothing_is_said(api: Api) -> None:
    for operation in OPERATIONS:
        path = operation.path.replace("{session_id}", api.session_id).replace("{index}", "0").replace("{bucket}", "0")
        assert httpx.request(operation.method, api.url + path, timeout=30).status_code == 401


def test_a_ping_over_a_push_connection_is_answered(api: Api, local_grid: LocalGrid) -> None:
    answer = httpx.put(f"{api.url}/subscribers/{'a' * 32}", headers=api.headers, timeout=60)
    url = str(local_grid.profile.push_url).replace("http", "ws", 1)
    with connect(f"{url}?ticket={answer.json()['ticket']}", proxy=None) as connection:
        connection.send(PingFrame().model_dump_json())
        assert connection.recv(timeout=60) == PongFrame().model_dump_json()
