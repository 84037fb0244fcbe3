"""Payloads that the API passes on in parts: from whom, to whom, in which order, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.control_plane_harness import FAILURE, TENANT, Harness

from htcgrid_chunks.chunk import Payload
from htcgrid_controlplane.errors import NotAllowed, PartRefused, PayloadExists, QuotaExceeded, UnknownStore
from htcgrid_controlplane.rules.payload_paths import is_part, path_of, payload_key
from htcgrid_controlplane.rules.quotas import TenantLimits
from htcgrid_controlplane.services.relay import Upload
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_dataplane import RELAY_PART_BYTES as PART_OF_STORES
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, StoreUnavailable, encode_lines, input_key, result_key
from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_events import RELAY_PART_BYTES, AddChunks, ChunkInput, new_id

PART = RELAY_PART_BYTES
STORE = "filesystem"


@pytest.fixture
def grid(harness: Harness, tmp_path: Path) -> ControlPlane:
    """The control plane of a grid whose store is a folder."""
    FilesystemStore.prepare(tmp_path)
    return with_store(harness, tmp_path)


def with_store(harness: Harness, folder: Path, limits: TenantLimits | None = None) -> ControlPlane:
    told = {"store": STORE, "store_settings": {"folder": str(folder), "patience_seconds": "0"}}
    settings = harness.grid.settings.model_copy(
        update={**told, "tenant_limits": limits or harness.grid.settings.tenant_limits}
    )
    return replace(harness.grid, settings=settings)


def upload_of(size: int, session_id: str = "", store: str = STORE) -> Upload:
    return Upload(session_id or new_id(), 0, store, size, new_id())


def put(grid: ControlPlane, upload: Upload, data: bytes, tenant: str = TENANT) -> None:
    for offset in range(0, len(data), PART):
        grid.relay.write(tenant, upload, offset, data[offset : offset + PART])


def test_parts_are_of_one_size_for_stores_and_api() -> None:
    assert PART_OF_STORES == PART


def test_a_link_of_the_api_names_no_tenant_and_leads_to_the_key() -> None:
    for key in (input_key(TENANT, "5" * 32, 7, "a" * 32), result_key(TENANT, "5" * 32, 7, 2)):
        path = path_of(TENANT, key, "a+b", 12)
        assert TENANT not in path
        place, _, query = path.partition("?")
        assert query == "store=a%2Bb&size=12"
        assert payload_key(TENANT, *place.removeprefix("/payloads/").split("/")) == key


@pytest.mark.parametrize(
    ("size", "offset", "length", "fits"),
    [
        (1, 0, 1, True), (PART, 0, PART, True), (PART + 1, PART, 1, True), (2 * PART, PART, PART, True),
        (1, 0, 0, False), (1, 1, 0, False), (1, -1, 1, False), (PART + 1, 0, PART + 1, False), (5, 0, 4, False),
        (PART + 1, 1, PART, False), (PART + 1, 0, PART - 1, False), (PART + 1, PART, 2, False),
        (2 * PART, PART // 2, PART, False),
    ],
)  # fmt: skip
def test_a_part_is_whole_or_the_last(size: int, offset: int, length: int, fits: bool) -> None:
    assert is_part(size, offset, length) is fits


def test_inputs_are_put_in_parts_and_read_by_their_owner_alone(grid: ControlPlane) -> None:
    data = bytes(range(256)) * (PART // 128) + b"rest"
    upload = upload_of(len(data))
    places = grid.relay.places(TENANT, upload.session_id, {0: len(data)})
    key = input_key(TENANT, upload.session_id, 0)
    assert places.store == STORE
    assert places.headers == {"Content-Type": "application/zlib"}
    assert places.urls == places.taken == {0: path_of(TENANT, key, STORE, len(data))}
    with pytest.raises(PayloadMissing):
        grid.relay.read(key, STORE, len(data), 0)
    put(grid, upload, data)
    read = b"".join(grid.relay.read(key, STORE, len(data), offset) for offset in range(0, len(data), PART))
    assert read == data
    with pytest.raises(PayloadMissing):
        grid.relay.read(input_key("thief", upload.session_id, 0), STORE, len(data), 0)
    put(grid, upload_of(3, upload.session_id), b"his", tenant="thief")
    assert grid.relay.read(key, STORE, len(data), 2 * PART) == b"rest"


def test_the_last_part_may_be_repeated(grid: ControlPlane) -> None:
    """As it is after an answer that was lost."""
    data = bytes(PART + 1)
    upload = upload_of(len(data))
    put(grid, upload, data)
    for _ in range(2):
        grid.relay.write(TENANT, upload, PART, data[PART:])
    assert grid.relay.read(input_key(TENANT, upload.session_id, 0), STORE, len(data), PART) == data[PART:]


def test_what_a_task_was_given_stays_what_it_was(grid: ControlPlane) -> None:
    first = upload_of(5)
    put(grid, first, b"first")
    with pytest.raises(PayloadExists):
        put(grid, upload_of(5, first.session_id), b"other")
    assert grid.relay.read(input_key(TENANT, first.session_id, 0), STORE, 5, 0) == b"first"


def test_an_upload_that_lacks_its_beginning_is_begun_anew(grid: ControlPlane) -> None:
    upload = upload_of(PART + 1)
    with pytest.raises(PayloadMissing):
        grid.relay.write(TENANT, upload, PART, b"x")


def test_numbers_that_do_not_fit_are_refused(grid: ControlPlane) -> None:
    upload = upload_of(5)
    with pytest.raises(PartRefused, match="each has 4194304 bytes"):
        grid.relay.write(TENANT, upload, 0, b"four")
    put(grid, upload, b"right")
    key = input_key(TENANT, upload.session_id, 0)
    with pytest.raises(PartRefused, match="no part at 5"):
        grid.relay.read(key, STORE, 5, 5)
    with pytest.raises(PayloadCorrupt):
        grid.relay.read(key, STORE, 6, 0)


@pytest.mark.parametrize(("store", "words"), [("redis", "it has: filesystem, s3"), ("s3", "presigned URLs")])
def test_a_store_that_is_not_the_grids_or_has_presigned_urls_is_refused(
    grid: ControlPlane, store: str, words: str
) -> None:
    with pytest.raises(UnknownStore, match=words):
        grid.relay.write(TENANT, upload_of(1, store=store), 0, b"x")
    with pytest.raises(UnknownStore, match=words):
        grid.relay.read(input_key(TENANT, new_id(), 0), store, 1, 0)


def test_a_store_that_does_not_answer_is_one_for_now(harness: Harness, tmp_path: Path) -> None:
    grid = with_store(harness, tmp_path / "not mounted")
    with pytest.raises(StoreUnavailable):
        grid.relay.read(input_key(TENANT, new_id(), 0), STORE, 1, 0)


def test_parts_count_in_the_bytes_of_their_tenant_and_places_do_not(harness: Harness, tmp_path: Path) -> None:
    FilesystemStore.prepare(tmp_path)
    limits = harness.grid.settings.tenant_limits.model_copy(update={"bytes_per_day": 100})
    grid = with_store(harness, tmp_path, limits)
    for _ in range(3):
        grid.relay.places(TENANT, new_id(), {0: 90})
    upload = upload_of(60)
    put(grid, upload, bytes(60))
    with pytest.raises(QuotaExceeded, match="100 bytes of inputs a day"):
        put(grid, upload_of(60), bytes(60))
    with pytest.raises(NotAllowed):
        put(grid, upload_of(101), bytes(101))
    direct = ControlPlane(harness.grid.settings.model_copy(update={"tenant_limits": limits}), harness.clock)
    harness.start_anew()
    direct.relay.places(TENANT, new_id(), {0: 90})
    with pytest.raises(QuotaExceeded):
        direct.relay.places(TENANT, new_id(), {0: 90})


def test_links_lead_where_the_rows_say(harness: Harness, grid: ControlPlane) -> None:
    """Of one session, some of whose chunks were stored before the store was changed, and some after."""
    session = harness.create(close=False)
    stores = ("s3", STORE)
    given = [
        ChunkInput(chunk=chunk, first_task=chunk, size=1, stored_bytes=9, store=store)
        for chunk, store in enumerate(stores)
    ]
    grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=tuple(given)))
    for lease, store in zip(harness.claim(session, 0, 1), stores, strict=True):
        results = Payload(stored_bytes=7, store=store)
        assert grid.chunks.finish([(lease, harness.progress("C", results=results))]) == [True]
    told = grid.queries.outcomes(TENANT, session.session_id, 0, -1)
    links = [each.url or "" for each in told.partial]
    assert "X-Amz-Signature" in links[0]
    assert links[1] == path_of(TENANT, result_key(TENANT, session.session_id, 1, 1), STORE, 7)
    events = [grid.queries.task_input(TENANT, session.session_id, index).url or "" for index in (0, 1)]
    assert "X-Amz-Signature" in events[0]
    assert events[1] == path_of(TENANT, input_key(TENANT, session.session_id, 1), STORE, 9)


def test_chunks_in_a_store_that_the_grid_does_not_have_are_refused(harness: Harness) -> None:
    session = harness.create(close=False)
    elsewhere = ChunkInput(chunk=0, first_task=0, size=1, stored_bytes=9, store=STORE)
    with pytest.raises(UnknownStore, match="no payload store 'filesystem'; it has: s3"):
        harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=(elsewhere,)))
    assert harness.grid.chunks.read(session, 0) is None


def test_what_the_control_plane_writes_lies_in_the_grids_store(harness: Harness, grid: ControlPlane) -> None:
    """Whatever lay elsewhere before: here the results of a chunk that it gives up."""
    session = harness.create(close=False)
    lines = [b'"x"', FAILURE.model_dump_json().encode()]
    data = encode_lines(lines)
    harness.grid.bucket.put(input_key(TENANT, session.session_id, 0), data)
    stored = ChunkInput(chunk=0, first_task=0, size=2, stored_bytes=len(data))
    grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=(stored,)))
    [lease] = harness.claim(session, 0)
    harness.grid.bucket.put(result_key(TENANT, session.session_id, 0, 1), data)
    so_far = harness.progress("CQ", results=Payload(stored_bytes=len(data)))
    assert grid.chunks.checkpoint([(lease, so_far, harness.clock() + 1)]) == [True]
    harness.clock.advance(10)
    given_up = grid.giving_up.give_up(harness.row(session))
    assert given_up is not None
    row = harness.row(session)
    assert row.results.store == given_up.results.store == STORE
    assert len(grid.dead_letters.lines(row, {0, 1})) == 2
