"""Data that tasks share, over the HTTP API of a running grid, with IAM."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from htcgrid import Grid, Profile
from htcgrid_dataplane import data_key, encode_lines
from htcgrid_dataplane.shared_objects import PART_BYTES
from htcgrid_events import ChunkInput, CreateSession, DataReference, Totals, new_id
from htcgrid_local import LocalGrid
from htcgrid_local.home import Home
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


@dataclass(frozen=True)
class User:
    """A user who asks the API without the connector."""

    url: str
    headers: dict[str, str]
    tenant: str

    def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """The status and the body of an answer."""
        answer = httpx.request(method, self.url + path, headers=self.headers, timeout=60, **more)
        return answer.status_code, answer.json()

    def put(self, stored: bytes, name: str = "curves") -> tuple[int, Any]:
        return self.ask("PUT", f"/data/{digest_of(stored)}", json={"bytes": len(stored), "name": name})

    def upload(self, stored: bytes) -> dict[str, Any]:
        """Put data, upload and complete it. Gives the reference."""
        status, place = self.put(stored)
        assert (status, place["there"]) == (200, False)
        upload = place["upload"]
        for start, url in zip(range(0, max(1, len(stored)), PART_BYTES), upload["urls"], strict=True):
            part = stored[start : start + upload["part_bytes"]]
            assert httpx.put(url, content=part, headers=upload["headers"], timeout=60).status_code == 200
        status, record = self.ask("POST", f"/data/{digest_of(stored)}/complete")
        assert (status, record["state"]) == (200, "THERE")
        reference: dict[str, Any] = record["reference"]
        return reference

    def submit(self, *digests: str, preload: tuple[dict[str, Any], ...] = ()) -> tuple[int, Any]:
        request = CreateSession(
            chunks=(ChunkInput(chunk=0, first_task=0, size=1, inputs=encode_lines([b'{"value": 1}'])),),
            totals=Totals(chunks=1, tasks=1),
            data=digests,
            preload=tuple(map(DataReference.model_validate, preload)),
        )
        return self.ask("PUT", f"/sessions/{new_id()}", content=request.to_json())


def digest_of(stored: bytes) -> str:
    return hashlib.sha256(stored).hexdigest()


def content(size: int = 32) -> bytes:
    """Bytes that no other test has."""
    return new_id().encode().ljust(size, b".")


def signed_in(local_grid: LocalGrid, name: str) -> User:
    return user_of(local_grid, local_grid.add_user(name))


def user_of(local_grid: LocalGrid, profile: Profile) -> User:
    assert profile.password is not None
    result = local_grid.client("cognito-idp").initiate_auth(
        ClientId=profile.user_pool_client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": profile.username, "PASSWORD": profile.password.get_secret_value()},
    )["AuthenticationResult"]
    headers = {"authorization": f"Bearer {result['IdToken']}", "content-type": "application/json"}
    tenant = httpx.get(f"{profile.api_url}/grid", headers=headers, timeout=60).json()["tenant"]
    return User(profile.api_url, headers, tenant)


@pytest.fixture(scope="module")
def user(local_grid: LocalGrid) -> User:
    return signed_in(local_grid, f"sharing-{new_id()}")


@pytest.fixture(scope="module")
def other(local_grid: LocalGrid) -> User:
    return signed_in(local_grid, f"sharing-{new_id()}")


@pytest.fixture
def limited(local_grid: LocalGrid) -> Iterator[User]:
    """A user who may keep a gigabyte."""
    user = signed_in(local_grid, f"sharing-{new_id()}")
    local_grid.client("dynamodb").put_item(
        TableName=local_grid.outputs["TenantsTable"],
        Item={"tenant": {"S": user.tenant}, "limits": {"M": {"data_gigabytes": {"N": "1"}}}},
    )
    yield user
    for record in user.ask("GET", "/data")[1]["data"]:
        user.ask("DELETE", f"/data/{record['reference']['sha256']}")


def test_data_is_put_completed_found_listed_and_deleted(user: User) -> None:
    stored = content()
    reference = user.upload(stored)
    assert reference == {"sha256": digest_of(stored), "bytes": 32, "name": "curves", "folder": False}
    status, record = user.ask("GET", f"/data/{digest_of(stored)}")
    assert status == 200
    assert httpx.get(record["url"], timeout=60).content == stored
    status, place = user.put(stored, name="yields")
    assert (status, place["there"], place["upload"]) == (200, True, None)
    status, page = user.ask("GET", "/data")
    assert (status, page["next_after"]) == (200, None)
    assert {"reference": reference | {"name": "yields"}, "state": "THERE", "url": None}.items() <= next(
        each for each in page["data"] if each["reference"]["sha256"] == digest_of(stored)
    ).items()
    for deleted in (True, False):
        answer = user.ask("DELETE", f"/data/{digest_of(stored)}")
        assert answer == (200, {"sha256": digest_of(stored), "deleted": deleted})
    status, error = user.ask("GET", f"/data/{digest_of(stored)}")
    assert (status, error["error"]) == (404, "DataNotFound")
    assert httpx.get(record["url"], timeout=60).status_code == 404


def test_large_data_is_put_in_parts_and_an_upload_can_be_given_up(user: User, local_grid: LocalGrid) -> None:
    stored = content(PART_BYTES + 9)
    user.upload(stored)
    assert httpx.get(user.ask("GET", f"/data/{digest_of(stored)}")[1]["url"], timeout=60).content == stored
    left = content(PART_BYTES + 9)
    status, place = user.put(left)
    assert status == 200
    assert httpx.put(place["upload"]["urls"][0], content=left[:PART_BYTES], timeout=60).status_code == 200
    status, error = user.ask("POST", f"/data/{digest_of(left)}/complete")
    assert (status, error["error"]) == (409, "DataConflict")
    assert "such as 2" in error["message"]
    for each in (stored, left):
        assert user.ask("DELETE", f"/data/{digest_of(each)}") == (200, {"sha256": digest_of(each), "deleted": True})
    uploads = local_grid.client("s3").list_multipart_uploads(Bucket=local_grid.outputs["DataBucket"])
    assert data_key(user.tenant, digest_of(left)) not in [each["Key"] for each in uploads.get("Uploads", [])]


def test_a_session_runs_with_data_that_is_there_and_its_partition_preloads_it(
    user: User, local_grid: LocalGrid
) -> None:
    reference = user.upload(stored := content())
    status, session = user.submit(digest_of(stored), preload=(reference,))
    assert status == 200
    until(lambda: user.ask("GET", f"/sessions/{session['session_id']}")[1]["state"] == "COMPLETED")
    row = local_grid.client("dynamodb").get_item(
        TableName=local_grid.outputs["PartitionsTable"],
        Key={"partition": {"S": "default"}, "entry": {"S": "preload"}},
    )["Item"]
    assert row["preload"]["M"][f"{user.tenant}/{digest_of(stored)}"]["M"]["bytes"] == {"N": "32"}
    status, error = user.ask("DELETE", f"/data/{digest_of(stored)}")
    assert (status, error["error"]) == (409, "DataInUse")
    assert user.ask("DELETE", f"/data/{digest_of(stored)}", params={"force": "true"})[1]["deleted"]


def test_a_session_with_missing_data_is_refused(user: User, other: User) -> None:
    gone, theirs, announced = content(), content(), content()
    other.upload(theirs)
    user.put(announced)
    for stored in (gone, theirs, announced):
        status, error = user.submit(digest_of(stored))
        assert (status, error["error"]) == (409, "DataMissing")
        assert digest_of(stored) in error["message"]
    assert user.ask("GET", "/sessions", params={"state": "RUNNING"})[1]["sessions"] == []


def test_data_of_another_tenant_is_as_if_it_were_not(user: User, other: User) -> None:
    stored = content()
    user.upload(stored)
    path = f"/data/{digest_of(stored)}"
    assert other.ask("GET", path)[0] == 404
    assert other.ask("POST", f"{path}/complete")[0] == 404
    assert other.ask("DELETE", path, params={"force": "true"}) == (
        200,
        {"sha256": digest_of(stored), "deleted": False},
    )
    assert digest_of(stored) not in str(other.ask("GET", "/data")[1])
    status, place = other.put(stored)
    assert (status, place["there"]) == (200, False)
    assert f"/{other.tenant}/data/" in place["upload"]["urls"][0]
    assert user.ask("GET", path)[1]["state"] == "THERE"


def test_what_is_above_the_limit_is_refused_until_there_is_room(limited: User) -> None:
    first, second = content(), content()
    wanted = {"bytes": 6 * 10**8, "name": "curves"}
    assert limited.ask("PUT", f"/data/{digest_of(first)}", json=wanted)[0] == 200
    status, error = limited.ask("PUT", f"/data/{digest_of(second)}", json=wanted)
    assert (status, error["error"]) == (429, "QuotaExceeded")
    assert limited.ask("GET", f"/data/{digest_of(second)}")[0] == 404
    status, error = limited.ask("PUT", f"/data/{digest_of(second)}", json=wanted | {"bytes": 10**9 + 1})
    assert (status, error["error"]) == (403, "NotAllowed")
    assert limited.ask("DELETE", f"/data/{digest_of(first)}")[1]["deleted"]
    assert limited.ask("PUT", f"/data/{digest_of(second)}", json=wanted)[0] == 200


def test_tasks_find_their_data_which_the_node_of_both_agents_fetches_once(local_grid: LocalGrid) -> None:
    profile = local_grid.add_user(f"sharing-{new_id()}")
    stored = content(PART_BYTES + 1)
    reference = DataReference.model_validate(user_of(local_grid, profile).upload(stored))
    events = [{"do": "digest", "data": reference.in_event(), "number": number} for number in range(40)]
    with Grid.connect(profile) as grid:
        session = grid.submit(events, chunk_size=1)
        assert list(session.results()) == [digest_of(stored)] * len(events)
    home = Home(local_grid.first_grid_configuration.parents[1])
    logs = [home.log(f"agent-{number}").read_text() for number in range(2)]
    fetched = [line for log in logs for line in log.splitlines() if "shared data was fetched" in line]
    assert len([line for line in fetched if reference.sha256 in line]) == 1


HANDLERS = """
import hashlib
from pathlib import Path


def digests(event, context):
    return [hashlib.sha256(Path(event["file"]).read_bytes()).hexdigest(), Path(event["folder"], "a/b").read_text()]
"""


def test_what_a_client_puts_tasks_find_and_a_replay_finds_it_too(local_grid: LocalGrid, tmp_path: Path) -> None:
    profile = local_grid.add_user(f"sharing-{new_id()}")
    stored = content(PART_BYTES + 1)
    (tmp_path / "curves.bin").write_bytes(stored)
    (tmp_path / "market" / "a").mkdir(parents=True)
    (tmp_path / "market" / "a" / "b").write_bytes(inner := content())
    with Grid.connect(profile) as grid:
        file, folder = grid.put(tmp_path / "curves.bin"), grid.put(tmp_path / "market")
        assert grid.put(tmp_path / "market") == folder
        assert {record.reference.sha256 for record in grid.data()} == {file.sha256, folder.sha256}
        events = [{"do": "digest", "data": file}, {"do": "digest", "data": folder, "below": "a/b"}]
        session = grid.submit([*events, {"file": file, "folder": folder}], chunk_size=1, preload=True)
        assert session.results()[:2] == [digest_of(stored), digest_of(inner)]
    (tmp_path / "replayed.py").write_text(HANDLERS, encoding="utf-8")
    environment = {
        **os.environ,
        "HTCGRID_PROFILE": str(profile.save(tmp_path / "profile.json")),
        "HTCGRID_HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    words = ("task", "replay", session.id, "2", "--handler", "replayed.digests")
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", *words]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [digest_of(stored), inner.decode()]
