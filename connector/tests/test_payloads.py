"""The ways to payloads: presigned URLs, the grid's API, and stores that the machine reaches itself."""

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import Answer, StubGrid
from tests.support.hostile import MIB, at_most

from htcgrid import Grid, Profile, ProfileInvalid, RequestRejected, ResultsUnavailable, UnexpectedAnswer
from htcgrid._core.client import Client
from htcgrid._transport import direct
from htcgrid._transport.parts import PARTS_AT_A_TIME, assembled
from htcgrid._transport.presigned import ONE_REQUEST_BYTES, RANGE_BYTES
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, PayloadStore, StoreMisconfigured, StoreUnavailable
from htcgrid_events import RELAY_PART_BYTES

_T = TypeVar("_T")
_NOISE = random.Random(1)
_LETTERS = bytes(b for b in range(35, 127) if b != ord("\\"))
LARGE = [_NOISE.randbytes(size).translate((_LETTERS * 3)[:256]).decode() for size in (20_000, 6_200_000)]
"""Texts that do not compress well: one part, and two."""
SESSION = "1" * 32
SETTINGS = {"redis": {"url": "rediss://127.0.0.1:1"}}
"""Of a store where nobody listens, and that is never opened but by a test."""


@pytest.fixture
def relayed(stub: StubGrid) -> StubGrid:
    """A grid whose payloads are reached through its API, and do not fit into rows."""
    stub.store, stub.inline = "redis", False
    return stub


def asked(stub: StubGrid, work: Callable[[Client], Coroutine[Any, Any, _T]], **profile: object) -> _T:
    """What an asynchronous client of the grid gives."""

    async def scenario() -> _T:
        client = await Client.connect(stub.profile(**profile), None, None, timedelta(seconds=60), "poll")
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(scenario())


def fetched(stub: StubGrid, link: str, size: int | None, **profile: object) -> bytes:
    return asked(stub, lambda client: client.api.payloads.get(link, size), **profile)


def uploaded(stub: StubGrid, link: str, data: bytes, **profile: object) -> None:
    asked(stub, lambda client: client.api.payloads.put(link, {}, data, link), **profile)


def inputs(size: int) -> str:
    return f"/payloads/{SESSION}/inputs/0?store=redis&size={size}"


def is_in_parts(stub: StubGrid) -> None:
    assert stub.count(r"PUT /api/payloads/\w+/inputs/1\?store=redis&size=\d+&offset=4194304&upload=[0-9a-f]{32}$") == 1
    assert stub.count(r"GET /api/payloads/\w+/results/1.1\?store=redis&size=\d+&offset=4194304$") >= 1
    assert stub.count("(GET|PUT) /(in|out)/") == 0
    assert stub.largest_request <= RELAY_PART_BYTES


def test_all_that_clients_do_works_through_the_api(relayed: StubGrid, grid: Grid) -> None:
    session = grid.submit(LARGE, chunk_size=1)
    relayed.run(session.id, lambda event: event)
    assert session.results(timeout=60) == LARGE
    is_in_parts(relayed)
    assert [session.event(index) for index in (0, 1)] == LARGE
    attached = grid.attach(session.id)
    assert sorted(task.index for task in attached.as_completed(timeout=60)) == [0, 1]


def test_a_submission_may_be_repeated_through_the_api(relayed: StubGrid, grid: Grid) -> None:
    session = grid.submit(LARGE, chunk_size=1, session_id=SESSION, on_exit="keep")
    before = dict(relayed.payloads)
    assert grid.submit(LARGE, chunk_size=1, session_id=session.id).id == SESSION
    assert relayed.payloads == before
    with pytest.raises(RequestRejected, match="may be repeated, but not changed") as refused:
        grid.submit([LARGE[0], LARGE[1][::-1]], chunk_size=1, session_id=session.id)
    assert refused.value.reason == "UploadTaken"


@pytest.mark.parametrize("fault", [Answer(503), Answer(0), Answer(401)])
def test_a_part_is_repeated(relayed: StubGrid, fault: Answer) -> None:
    data = random.Random(2).randbytes(3 * RELAY_PART_BYTES - 7)
    relayed.fail("offset=4194304", fault)
    uploaded(relayed, inputs(len(data)), data)
    relayed.fail("offset=8388608", fault)
    assert fetched(relayed, inputs(len(data)), len(data)) == data
    assert relayed.count("PUT .*offset=4194304") == 2
    assert relayed.count("GET .*offset=8388608") == 2


@pytest.mark.parametrize("size", [1, RELAY_PART_BYTES, RELAY_PART_BYTES + 1, 2 * RELAY_PART_BYTES])
def test_every_byte_comes_and_goes_once(relayed: StubGrid, size: int) -> None:
    data = random.Random(3).randbytes(size)
    uploaded(relayed, inputs(size), data)
    assert fetched(relayed, inputs(size), None) == data
    assert relayed.count("PUT /api/payloads") == relayed.count("GET /api/payloads") == -(-size // RELAY_PART_BYTES)


def test_what_the_api_refuses_is_told_with_its_reason(relayed: StubGrid) -> None:
    with pytest.raises(ResultsUnavailable, match="status 404: The grid says PayloadMissing"):
        fetched(relayed, inputs(5), 5)
    relayed.fail("PUT", Answer(422, b'{"error":"Invalid","message":"Nonsense."}'))
    with pytest.raises(RequestRejected, match=r"an upload of 5 bytes with status 422: Nonsense\.") as refused:
        uploaded(relayed, inputs(5), b"12345")
    assert refused.value.reason == "Invalid"


def test_a_part_of_another_size_is_not_taken(relayed: StubGrid) -> None:
    relayed.fail("GET", Answer(200, b"1234"), Answer(200, b"123456"))
    for _ in range(2):
        with pytest.raises(ResultsUnavailable, match="another part of a payload than bytes 0 to 5"):
            fetched(relayed, inputs(5), 5)
    with pytest.raises(ResultsUnavailable, match="has 6 bytes, and that it has 5"):
        fetched(relayed, inputs(5), 6)


@pytest.mark.parametrize(
    "link",
    [
        "/payloads/s/inputs/0",
        "/payloads/s/inputs/0?store=redis&size=many",
        "/payloads/s/inputs/0?store=redis&size=-1",
        f"/payloads/s/inputs/0?store=redis&size={2**40}",
        "/payloads/s/0?store=redis&size=1",
        "/else/s/inputs/0?store=redis&size=1",
        "//elsewhere.example/payloads/s/inputs/0?store=redis&size=1",
    ],
)
def test_a_path_that_is_not_understood_is_asked_nothing(relayed: StubGrid, link: str) -> None:
    with pytest.raises(UnexpectedAnswer, match="does not understand"):
        fetched(relayed, link, 1)
    assert relayed.count("GET") == 0


def test_a_payload_is_held_once(relayed: StubGrid) -> None:
    size = 64 * MIB
    relayed.payloads[f"/in/{SESSION}/0"] = relayed.payloads["/thing"] = bytes(size)
    in_flight = PARTS_AT_A_TIME * RANGE_BYTES  # here, where parts may be smaller, and about as much at the stub grid
    for link in (inputs(size), f"{relayed.url}/thing"):

        async def measured(client: Client, link: str = link) -> int:
            with at_most(size + in_flight + in_flight // 2):
                return len(await client.api.payloads.get(link, size))

        assert asked(relayed, measured) == size


def test_few_parts_are_in_flight() -> None:
    waiting: set[int] = set()
    most = 0

    async def read(offset: int, length: int) -> bytes:
        nonlocal most
        waiting.add(offset)
        most = max(most, len(waiting))
        await asyncio.sleep(0)
        waiting.remove(offset)
        return bytes([offset]) * length

    whole = asyncio.run(assembled(b"\0", 200, 1, read))
    assert whole == bytes(range(200))
    assert most == PARTS_AT_A_TIME


# --- presigned URLs ---


LARGEST = 3 * RANGE_BYTES + 5


@pytest.fixture
def stored(stub: StubGrid) -> bytes:
    stub.payloads["/thing"] = random.Random(4).randbytes(LARGEST)
    return stub.payloads["/thing"]


def test_a_large_payload_comes_in_ranges(stub: StubGrid, stored: bytes) -> None:
    assert fetched(stub, f"{stub.url}/thing", LARGEST) == stored
    assert stub.count("GET /thing") == 4
    small = ONE_REQUEST_BYTES
    stub.payloads["/thing"] = stored[:small]
    assert fetched(stub, f"{stub.url}/thing", small) == stored[:small]
    assert stub.count("GET /thing") == 5


def test_it_comes_at_once_from_those_who_know_no_ranges(stub: StubGrid, stored: bytes) -> None:
    stub.ranges = False
    assert fetched(stub, f"{stub.url}/thing", LARGEST) == stored
    assert stub.count("GET /thing") == 1


@pytest.mark.parametrize("size", [LARGEST - 1, LARGEST + 1, LARGEST + RANGE_BYTES])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_payload_of_another_size_is_not_taken(stub: StubGrid, stored: bytes, size: int, ranges: bool) -> None:
    stub.ranges = ranges
    if ranges or size < LARGEST:  # of fewer bytes in one answer the decoder says it
        with pytest.raises(ResultsUnavailable):
            fetched(stub, f"{stub.url}/thing", size)
    else:
        assert fetched(stub, f"{stub.url}/thing", size) == stored


def test_ranges_are_of_one_payload(stub: StubGrid, stored: bytes) -> None:
    """And never half of an attempt's checkpoint with half of its results."""
    stub.fail("GET /thing", Answer(206, bytes(RANGE_BYTES), {"etag": '"before"'}))
    with pytest.raises(ResultsUnavailable, match="412"):
        fetched(stub, f"{stub.url}/thing", LARGEST)


# --- directly ---


class Memory:
    """A store that a machine reaches by itself."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.down = False
        self._parts: dict[tuple[str, str], bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.payloads[key] = data

    def get(self, key: str, size: int) -> bytes:
        if self.down:
            raise StoreUnavailable("the memory is down")
        if key not in self.payloads:
            raise PayloadMissing(f"no payload lies under {key}")
        if len(self.payloads[key]) != size:
            raise PayloadCorrupt(f"the payload {key} has another size")
        return self.payloads[key]

    def stream(self, key: str, size: int) -> Any:
        yield self.get(key, size)

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        return self.get(key, size)[offset : offset + length]

    def put_part(self, key: str, upload: str, offset: int, part: bytes) -> None:
        if self.down:
            raise StoreUnavailable("the memory is down")
        self._parts[key, upload] = self._parts.get((key, upload), b"")[:offset] + part

    def finish(self, key: str, upload: str, size: int) -> bool:
        data = self._parts[key, upload]
        assert len(data) == size
        return self.payloads.setdefault(key, data) is data


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    store = Memory()
    monkeypatch.setattr(direct, "open_store", lambda name, settings, s3: store)
    return store


def test_a_store_that_is_reached_is_used_directly(relayed: StubGrid, memory: Memory) -> None:
    data = random.Random(5).randbytes(2 * RELAY_PART_BYTES + 3)
    uploaded(relayed, inputs(len(data)), data, stores=SETTINGS)
    uploaded(relayed, inputs(len(data)), data, stores=SETTINGS)
    assert memory.payloads == {f"ada/{SESSION}/inputs/0": data}  # the tenant is whom the grid takes the user for
    assert fetched(relayed, inputs(len(data)), len(data), stores=SETTINGS) == data
    assert relayed.count("/payloads/") == 0
    with pytest.raises(RequestRejected, match="not changed"):
        uploaded(relayed, inputs(len(data)), data[::-1], stores=SETTINGS)
    with pytest.raises(ResultsUnavailable, match="has another size"):
        fetched(relayed, inputs(5), 5, stores=SETTINGS)
    with pytest.raises(ResultsUnavailable, match="no payload lies"):
        fetched(relayed, inputs(5).replace("inputs", "results"), 5, stores=SETTINGS)


def test_another_store_than_the_described_one_is_reached_through_the_api(relayed: StubGrid, memory: Memory) -> None:
    relayed.store = "filesystem"
    uploaded(relayed, inputs(5).replace("redis", "filesystem"), b"12345", stores=SETTINGS)
    assert memory.payloads == {}
    assert relayed.payloads[f"/in/{SESSION}/0"] == b"12345"


def test_a_store_that_ends_is_replaced_by_the_api(
    relayed: StubGrid, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0

    async def scenario(client: Client) -> None:
        nonlocal now
        client.api.payloads.direct._clock = lambda: now
        await client.api.payloads.put(inputs(5), {}, b"12345", None)
        memory.down = True
        relayed.payloads[f"/in/{SESSION}/0"] = b"abcde"
        for _ in range(3):
            assert await client.api.payloads.get(inputs(5), 5) == b"abcde"
        memory.down = False
        assert await client.api.payloads.get(inputs(5), 5) == b"abcde"
        now = 61
        assert await client.api.payloads.get(inputs(5), 5) == b"12345"

    asked(relayed, scenario, stores=SETTINGS)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        "payloads go through the API, since redis at rediss://127.0.0.1:1 is not reached: the memory is down"
    ]


def test_a_store_that_does_not_open_is_replaced_by_the_api(
    relayed: StubGrid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (StoreUnavailable("nobody is there"), StoreMisconfigured("it evicts"), ImportError("no redis")):

        def refuse(name: str, settings: Mapping[str, str], s3: PayloadStore, error: Exception = error) -> None:
            assert settings["patience_seconds"] == "5"
            with pytest.raises(StoreMisconfigured, match="bucket"):
                s3.put("a", b"")
            with pytest.raises(StoreMisconfigured, match="bucket"):
                s3.get("a", 0)
            raise error

        monkeypatch.setattr(direct, "open_store", refuse)
        caplog.clear()
        relayed.payloads.clear()
        uploaded(relayed, inputs(5), b"12345", stores=SETTINGS)
        assert fetched(relayed, inputs(5), 5, stores=SETTINGS) == b"12345"
        assert str(error) in caplog.text
    assert "pip install 'htcgrid[redis]'" in caplog.text


def test_a_store_that_takes_no_parts_is_not_used(
    relayed: StubGrid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(direct, "open_store", lambda name, settings, s3: s3)
    uploaded(relayed, inputs(5), b"12345", stores=SETTINGS)
    assert "does not take payloads in parts" in caplog.text


# --- what the profile says, and what the doctor finds ---


@pytest.mark.parametrize(
    ("stores", "said"),
    [
        ({"redis": {}}, "in 'stores' is redis: the settings of the store are not right: url: Field required"),
        ({"redis": {"url": "http://a"}}, "in 'stores' is redis: .* must have the form rediss://host:port"),
        ({"redis": {"url": "rediss://a", "color": "red"}}, "in 'stores' is redis: .*color: Extra inputs"),
        ({"filesystem": {}}, "in 'stores' is filesystem: .*folder must be set, or in its place export_prefix"),
        ({"s3": {}}, "in 'stores' is s3: payloads in S3 are reached by presigned URLs"),
        (
            {"s3+redis": {"url": "rediss://a"}},
            r"in 'stores' is s3\+redis: payloads in S3 are reached by presigned",
        ),
        ({"redis": "rediss://a"}, "'stores' is not legal: it is settings of payload stores"),
        ({"redis": {"url": 5}}, "'stores' is not legal: it is settings of payload stores"),
        (["redis"], "'stores' is not legal: it is settings of payload stores"),
    ],
)
def test_stores_of_a_profile_that_are_not_right_are_named(
    stub: StubGrid, tmp_path: Path, stores: object, said: str
) -> None:
    place = stub.profile().save(tmp_path / "profile.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), "stores": stores}))
    with pytest.raises(ProfileInvalid, match=said):
        Profile.load(place)


def test_stores_of_a_profile_are_kept(stub: StubGrid, shell: Shell) -> None:
    described = {**SETTINGS, "mine": {"anything": "goes"}}
    path = stub.profile(stores=described).save(shell.home / "other.json")
    shell.succeed("config", "set", "--region", "eu-north-1", "--profile", str(path))
    assert Profile.load(path).stores == described
    assert "stores" not in json.loads(stub.profile().save(shell.home / "third.json").read_text())


def way(stub: StubGrid, shell: Shell, **profile: object) -> Any:
    path = stub.profile(**profile).save(shell.home / "other.json")
    done = shell.run("doctor", "--json", "--no-probe", "--profile", str(path))
    [finding] = [value for value in done.values() if value["check"] == "payloads"]
    return finding


def test_the_doctor_tells_the_way(stub: StubGrid, shell: Shell, memory: Memory) -> None:
    assert way(stub, shell)["found"] == "presigned URLs of S3"
    stub.store = "redis"
    assert way(stub, shell)["found"] == "through the API, in parts of 4 MB"
    assert way(stub, shell, stores=SETTINGS)["found"] == "directly: redis at rediss://127.0.0.1:1"
    stub.store = "filesystem"
    assert way(stub, shell, stores=SETTINGS)["found"] == "through the API, in parts of 4 MB"


def test_the_doctor_finds_a_store_that_is_not_reached(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    stub.store = "filesystem"
    finding = way(stub, shell, stores={"filesystem": {"folder": str(tmp_path / "none")}})
    assert not finding["good"]
    assert finding["found"].startswith("through the API, in parts of 4 MB, since filesystem at ")
    assert "cannot be opened as a payload store" in finding["found"]
    assert "`stores`" in finding["what_to_do"]


def test_the_probe_task_has_a_payload(stub: StubGrid, shell: Shell) -> None:
    stub.store, stub.handler = "redis", lambda event: event["htcgrid_probe"]  # type: ignore[index]
    assert "a worker ran it" in shell.succeed("doctor").out
    assert stub.count(r"PUT /api/payloads/\w+/inputs/0") == 1


def test_no_client_library_of_a_store_is_loaded_unasked(stub: StubGrid, tmp_path: Path) -> None:
    """Nor when the profile describes a store, before a payload needs it."""
    code = (
        "import sys; from htcgrid import Grid; Grid.connect().close();"
        "print([m for m in ('redis', 'boto3', 'botocore') if m in sys.modules])"
    )
    environment = {**os.environ, "HTCGRID_PROFILE": str(stub.profile(stores=SETTINGS).save(tmp_path / "profile.json"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
