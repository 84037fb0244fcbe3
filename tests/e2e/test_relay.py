"""Payloads in stores that clients do not reach: the API passes them on, and a change of the store loses none."""

import json
import secrets
import zlib
from base64 import b85encode
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from dataplane.tests.redis_server import Server, running, settings_of

from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_events import RELAY_PART_BYTES, new_id
from htcgrid_local import LocalGrid
from htcgrid_local.progress import Silent
from tests.e2e.conftest import FUNCTION
from tests.e2e.stored import Stored
from tests.e2e.waiting import until

_ZLIB = {"content-type": "application/zlib"}
_PATIENCE = 300.0


@dataclass
class Stores:
    """A grid whose store can be changed, and the stores that it may have."""

    grid: LocalGrid
    agent_settings: Path
    settings: dict[str, dict[str, str]]
    redis: Server

    def use(self, store: str, *former: str) -> None:
        """Have the functions and then the agent write to `store`, and read what lies in `former`."""
        said = {
            "HTCGRID_STORE": store,
            "HTCGRID_STORE_SETTINGS": json.dumps(self.settings[store]),
            "HTCGRID_FORMER_STORES": json.dumps({name: self.settings[name] for name in former}),
        }
        functions = self.grid.client("lambda")
        for function in functions.list_functions()["Functions"]:
            variables = function.get("Environment", {}).get("Variables", {})
            functions.update_function_configuration(
                FunctionName=function["FunctionName"], Environment={"Variables": variables | said}
            )
        assert not self.grid.warm_functions()
        self.agent_settings.write_text("".join(f"{name}='{value}'\n" for name, value in said.items()))
        [agent] = self.grid.agents
        before = agent.pid
        self.grid.kill_agent(0)
        until(lambda: self.grid.agents[0].running and self.grid.agents[0].pid != before, _PATIENCE)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("relay")
    mount, settings = folder / "mount", folder / "agent"
    FilesystemStore.prepare(mount)
    settings.write_text("")
    with (
        running(folder / "redis") as server,
        LocalGrid(
            folder / "grid",
            function=FUNCTION,
            agents=1,
            workers=1,
            environment={"HTCGRID_SETTINGS_FILE": str(settings), "HTCGRID_LEASE_SECONDS": "6"},
            progress=Silent(),
        ) as grid,
    ):
        known = {"s3": {}, "filesystem": {"folder": str(mount)}, "redis": settings_of(server)}
        yield Stores(grid, settings, known, server)


@pytest.fixture(scope="module")
def api(stores: Stores) -> Iterator[httpx.Client]:
    yield from signed_in(stores.grid, "ada")


@pytest.fixture(scope="module")
def stranger(stores: Stores) -> Iterator[httpx.Client]:
    yield from signed_in(stores.grid, "stranger")


def signed_in(grid: LocalGrid, name: str) -> Iterator[httpx.Client]:
    """Speaks HTTP in the name of a new user."""
    profile = grid.add_user(name)
    assert profile.password is not None
    answer = grid.client("cognito-idp").initiate_auth(
        ClientId=profile.user_pool_client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": profile.username, "PASSWORD": profile.password.get_secret_value()},
    )
    headers = {"authorization": f"Bearer {answer['AuthenticationResult']['IdToken']}"}
    with httpx.Client(base_url=profile.api_url, headers=headers, timeout=_PATIENCE, trust_env=False) as client:
        yield client


def inputs_of(size: int) -> bytes:
    """Encoded inputs of one task, somewhat larger than `size` bytes."""
    # The text has a quarter more, and a task's event 6 MB at most.
    return zlib.compress(json.dumps({"value": b85encode(secrets.token_bytes(size)).decode()}).encode())


def places(api: httpx.Client, session_id: str, data: bytes) -> dict[str, Any]:
    answer = api.post(f"/sessions/{session_id}/uploads", json={"sizes": {"0": len(data)}})
    assert answer.status_code == HTTPStatus.OK, answer.text
    return dict(answer.json())


def put(api: httpx.Client, place: str, data: bytes, upload: str) -> list[int]:
    """Upload in parts. Gives the statuses."""
    return [
        api.put(
            f"{place}&offset={offset}&upload={upload}",
            content=data[offset : offset + RELAY_PART_BYTES],
            headers=_ZLIB,
        ).status_code
        for offset in range(0, len(data), RELAY_PART_BYTES)
    ]


def get(api: httpx.Client, place: str) -> bytes:
    """Download in parts."""
    size, data = int(httpx.URL(place).params["size"]), b""
    while len(data) < size:
        answer = api.get(f"{place}&offset={len(data)}")
        assert (answer.status_code, answer.headers["content-type"]) == (HTTPStatus.OK, "application/zlib"), answer.text
        assert 0 < len(answer.content) <= RELAY_PART_BYTES
        data += answer.content
    return data


def submit(api: httpx.Client, session_id: str, data: bytes, store: str) -> None:
    chunk = {"chunk": 0, "first_task": 0, "size": 1, "stored_bytes": len(data), "store": store}
    answer = api.put(f"/sessions/{session_id}", json={"chunks": [chunk], "totals": {"chunks": 1, "tasks": 1}})
    assert answer.status_code == HTTPStatus.OK, answer.text


def result(api: httpx.Client, session_id: str) -> Any:
    """The result of a session's only task, which is too large for its row, once the session has completed."""
    until(lambda: api.get(f"/sessions/{session_id}").json()["state"] in ("COMPLETED", "FAILED"), _PATIENCE)
    [outcome] = api.get(f"/sessions/{session_id}/buckets/0/outcomes").json()["outcomes"]
    assert outcome["outcomes"] == "C", api.get(f"/sessions/{session_id}/tasks/0").text
    url = outcome["url"]
    data = httpx.get(url, trust_env=False).content if url.startswith("http") else get(api, url)
    assert len(data) == outcome["stored_bytes"]
    return json.loads(zlib.decompress(data))


def noted(stores: Stores, session_id: str) -> tuple[str, str]:
    """In which stores the row of a session's only chunk says that inputs and results lie."""
    [row] = Stored(stores.grid).rows(session_id)
    return row.inputs.store, row.results.store


def in_bucket(stores: Stores, session_id: str) -> list[str]:
    listed = stores.grid.client("s3").list_objects_v2(Bucket=stores.grid.outputs["DataBucket"])
    return [each["Key"] for each in listed.get("Contents", []) if session_id in each["Key"]]


@pytest.mark.parametrize("store", ["filesystem", "redis"])
@pytest.mark.parametrize("size", [20_000, 4_600_000])
def test_payloads_pass_through_the_api(stores: Stores, api: httpx.Client, store: str, size: int) -> None:
    if api.get("/grid").json()["store"] != store:
        stores.use(store, "redis" if store == "filesystem" else "filesystem")
    assert api.get("/grid").json()["store"] == store
    session_id, data = new_id(), inputs_of(size)
    told = places(api, session_id, data)
    assert (told["store"], told["headers"]) == (store, {"Content-Type": "application/zlib"})
    place, upload = told["urls"]["0"], new_id()
    assert api.get(f"{told['taken']['0']}&offset=0").status_code == HTTPStatus.NOT_FOUND
    parts = -(-len(data) // RELAY_PART_BYTES)
    assert put(api, place, data, upload) == [HTTPStatus.NO_CONTENT] * parts
    # As after an answer that was lost.
    last = (parts - 1) * RELAY_PART_BYTES
    again = api.put(f"{place}&offset={last}&upload={upload}", content=data[last:], headers=_ZLIB)
    assert again.status_code == HTTPStatus.NO_CONTENT
    other = bytes(len(data))
    assert put(api, place, other, new_id())[-1] == HTTPStatus.PRECONDITION_FAILED
    assert get(api, told["taken"]["0"]) == data
    submit(api, session_id, data, store)
    assert result(api, session_id) == json.loads(zlib.decompress(data))["value"]
    event = api.get(f"/sessions/{session_id}/tasks/0/event").json()
    assert get(api, event["url"]) == data
    assert noted(stores, session_id) == (store, store)
    assert in_bucket(stores, session_id) == []


def test_no_payload_of_another_tenant_is_passed_on(stores: Stores, api: httpx.Client, stranger: httpx.Client) -> None:
    """Not to who knows its link, nor can it be written over; to him nothing lies there."""
    store = api.get("/grid").json()["store"]
    session_id, data = new_id(), inputs_of(20_000)
    place = places(api, session_id, data)["urls"]["0"]
    assert put(api, place, data, new_id()) == [HTTPStatus.NO_CONTENT]
    assert stranger.get(f"{place}&offset=0").status_code == HTTPStatus.NOT_FOUND
    if store != "s3":
        assert put(stranger, place, bytes(len(data)), new_id()) == [HTTPStatus.NO_CONTENT]
    assert get(api, place) == data


def test_a_session_outlives_a_change_of_the_store(stores: Stores, api: httpx.Client) -> None:
    """What lies in Redis is read from there by agents and functions whose store is the bucket by now."""
    if api.get("/grid").json()["store"] != "redis":
        stores.use("redis")
    done, waiting, data = new_id(), new_id(), inputs_of(20_000)
    for session_id in (done, waiting):
        place = places(api, session_id, data)["urls"]["0"]
        assert put(api, place, data, new_id()) == [HTTPStatus.NO_CONTENT]
    submit(api, done, data, "redis")
    value = result(api, done)
    stores.use("s3")
    refused = api.put(
        f"/sessions/{waiting}",
        json={"chunks": [{"chunk": 0, "first_task": 0, "size": 1, "stored_bytes": len(data), "store": "redis"}]},
    )
    assert (refused.status_code, refused.json()["error"]) == (HTTPStatus.UNPROCESSABLE_ENTITY, "UnknownStore")
    stores.use("s3", "redis")
    submit(api, waiting, data, "redis")
    assert result(api, waiting) == value
    assert noted(stores, waiting) == ("redis", "s3")
    assert result(api, done) == value
    assert noted(stores, done) == ("redis", "redis")
    assert places(api, new_id(), data)["urls"]["0"].startswith("http")
