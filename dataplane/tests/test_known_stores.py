"""The stores of a process: which one takes payloads, which ones hold them, and what is said of one that is unknown."""

import logging
from pathlib import Path

import pytest

from htcgrid_dataplane import PayloadStore, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_dataplane.stores import Stores, check_store
from htcgrid_dataplane.write_through import WriteThroughStore

KEY = "tenant/session/results/0.1"
NOWHERE = {"url": "redis://127.0.0.1:1"}


@pytest.fixture
def s3(tmp_path: Path) -> PayloadStore:
    """In place of the store on S3."""
    FilesystemStore.prepare(tmp_path / "s3")
    return FilesystemStore(tmp_path / "s3")


@pytest.fixture
def mount(tmp_path: Path) -> dict[str, str]:
    FilesystemStore.prepare(tmp_path / "mount")
    return {"folder": str(tmp_path / "mount")}


def test_a_grid_that_is_told_nothing_has_the_bucket(s3: PayloadStore) -> None:
    stores = Stores("s3", {}, s3)
    assert (stores.noted, sorted(stores.names)) == ("s3", ["s3"])
    assert stores.current is stores.of("s3") is stores.holding("s3") is s3


def test_payloads_of_before_are_read_where_they_lie(s3: PayloadStore, mount: dict[str, str]) -> None:
    Stores("filesystem", {"filesystem": mount}, s3).current.put(KEY, b"before")
    s3.put(KEY, b"other")
    stores = Stores("s3", {"s3": {}, "filesystem": mount}, s3)
    assert (stores.noted, sorted(stores.names)) == ("s3", ["filesystem", "s3"])
    assert stores.holding("filesystem").get(KEY, 6) == b"before"
    assert stores.holding("filesystem") is stores.of("filesystem")
    assert stores.current.get(KEY, 5) == b"other"


def test_a_cache_in_front_of_the_bucket_is_nobodys_place(s3: PayloadStore, mount: dict[str, str]) -> None:
    stores = Stores("s3+redis", {"s3+redis": NOWHERE}, s3)
    assert (stores.noted, sorted(stores.names)) == ("s3", ["s3"])
    assert isinstance(stores.current, WriteThroughStore)
    assert stores.of("s3") is stores.current
    later = Stores("filesystem", {"filesystem": mount, "s3+redis": NOWHERE}, s3)
    assert (later.noted, sorted(later.names)) == ("filesystem", ["filesystem", "s3"])
    assert later.of("s3") is s3


def test_a_store_is_opened_when_it_is_asked_for(s3: PayloadStore, tmp_path: Path) -> None:
    later = tmp_path / "later"
    stores = Stores("filesystem", {"filesystem": {"folder": str(later)}}, s3)
    with pytest.raises(StoreMisconfigured, match="cannot be opened as a payload store"):
        _ = stores.current
    FilesystemStore.prepare(later)
    stores.current.put(KEY, b"1")
    assert stores.holding("filesystem").get(KEY, 1) == b"1"


def test_a_payload_in_a_store_that_is_not_known_is_not_lost_and_told_once(
    s3: PayloadStore, caplog: pytest.LogCaptureFixture
) -> None:
    stores = Stores("s3", {}, s3)
    with pytest.raises(StoreMisconfigured, match="give its settings in HTCGRID_FORMER_STORES"):
        stores.of("redis")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="store 'redis', of which nothing is known here") as passing:
                stores.holding("redis")
            assert passing.value.retryable
    [told] = caplog.messages
    assert "HTCGRID_FORMER_STORES" in told


def test_a_payload_in_a_store_that_is_not_set_up_well_is_not_lost(s3: PayloadStore, tmp_path: Path) -> None:
    stores = Stores("s3", {"filesystem": {"folder": str(tmp_path / "nothing")}}, s3)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        stores.holding("filesystem")


def test_settings_are_looked_over_without_the_store() -> None:
    check_store("redis", NOWHERE)
    with pytest.raises(StoreMisconfigured, match="url: Field required"):
        check_store("redis", {})
    with pytest.raises(StoreMisconfigured, match="there is no store 'disk'; there are: filesystem, redis, s3"):
        check_store("disk", {})
