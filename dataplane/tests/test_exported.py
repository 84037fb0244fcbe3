"""Reading what a file system exports to S3."""

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from htcgrid_dataplane import DataPlaneError, PayloadCorrupt, PayloadMissing, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.exported import ExportedStore
from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_dataplane.s3 import S3Store
from htcgrid_dataplane.stores import open_store

KEY = "tenant/session é/results/0.1"
PREFIX = "lustre/"
MIB = 1024 * 1024


class Time:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def bucket(moto: None) -> S3Store:
    client = boto3.client("s3")
    client.create_bucket(Bucket="payloads")
    return S3Store(client, "payloads")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[FilesystemStore]:
    FilesystemStore.prepare(tmp_path / "lustre")
    store = FilesystemStore(tmp_path / "lustre", timedelta(0))
    yield store
    store.close()


@pytest.fixture
def export(bucket: S3Store, tmp_path: Path) -> Callable[[], None]:
    """Does what the file system does: each file becomes an object of its path."""

    def run() -> None:
        folder = tmp_path / "lustre"
        for path in folder.rglob("*"):
            if path.is_file():
                name = f"{PREFIX}{path.relative_to(folder)}"
                bucket._client.put_object(Bucket="payloads", Key=name, Body=path.read_bytes())

    return run


@pytest.fixture
def store(bucket: S3Store, time: Time) -> ExportedStore:
    return ExportedStore(bucket, PREFIX, timedelta(minutes=10), time)


def ways(store: ExportedStore, size: int) -> list[Callable[[], bytes]]:
    return [
        lambda: store.get(KEY, size),
        lambda: b"".join(store.stream(KEY, size)),
        lambda: store.read(KEY, size, 0, size),
    ]


@pytest.mark.parametrize("size", [0, 1, 20 * MIB])
def test_what_was_exported_is_read(
    store: ExportedStore, mount: FilesystemStore, export: Callable[[], None], size: int
) -> None:
    data = secrets.token_bytes(size)
    mount.put(KEY, data)
    export()
    assert [way() == data for way in ways(store, size)] == [True] * 3


@pytest.mark.parametrize("size", [0, 1, 9 * MIB])
def test_any_part_is_read(store: ExportedStore, mount: FilesystemStore, export: Callable[[], None], size: int) -> None:
    data = secrets.token_bytes(size)
    mount.put(KEY, data)
    export()
    for offset in {0, 1, size // 2, max(0, size - 1), size, size + 1}:
        for length in (1, 10, 4 * MIB):
            assert store.read(KEY, size, offset, length) == data[offset : offset + length]


@pytest.mark.parametrize(("before", "error"), [(None, PayloadMissing), (b"a checkpoint", PayloadCorrupt)])
def test_what_is_not_exported_yet_is_awaited_for_a_while(
    store: ExportedStore,
    mount: FilesystemStore,
    export: Callable[[], None],
    time: Time,
    before: bytes | None,
    error: type[DataPlaneError],
) -> None:
    if before:
        mount.put(KEY, before)
        export()
    mount.put(KEY, b"results")
    for seconds in (0.0, 300.0, 599.0):
        time.seconds = seconds
        for way in ways(store, 7):
            with pytest.raises(StoreUnavailable, match="has not been exported yet") as refusal:
                way()
            assert refusal.value.retryable
    time.seconds = 600.0
    for way in ways(store, 7):
        with pytest.raises(error, match="was not exported"):
            way()
    export()
    assert [way() for way in ways(store, 7)] == [b"results"] * 3
    with pytest.raises(StoreUnavailable, match="has not been exported yet"):
        store.get(KEY, 8)


def test_of_many_that_are_awaited_the_oldest_are_forgotten(
    store: ExportedStore, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("htcgrid_dataplane.exported._MOST_AWAITED", 2)
    for number in range(3):
        with pytest.raises(StoreUnavailable):
            store.get(f"{KEY}{number}", 1)
    time.seconds = 600.0
    with pytest.raises(PayloadMissing):
        store.get(f"{KEY}2", 1)
    with pytest.raises(StoreUnavailable):
        store.get(f"{KEY}0", 1)


def test_nothing_is_written_where_files_are_exported_to(store: ExportedStore) -> None:
    for write in (
        lambda: store.put(KEY, b"1"),
        lambda: store.put_part(KEY, "0" * 32, 0, b"1"),
        lambda: store.finish(KEY, "0" * 32, 1),
    ):
        with pytest.raises(StoreMisconfigured, match="is only read"):
            write()


def test_it_is_opened_by_its_prefix_in_place_of_a_folder(
    bucket: S3Store, mount: FilesystemStore, export: Callable[[], None], tmp_path: Path
) -> None:
    mount.put(KEY, b"1")
    export()
    assert open_store("filesystem", {"export_prefix": PREFIX}, bucket).get(KEY, 1) == b"1"
    for settings in ({}, {"export_prefix": PREFIX, "folder": str(tmp_path)}):
        with pytest.raises(StoreMisconfigured, match="folder must be set, or in its place export_prefix"):
            open_store("filesystem", settings, bucket)
    with pytest.raises(StoreMisconfigured, match="export_prefix: "):
        open_store("filesystem", {"export_prefix": "lustre"}, bucket)
