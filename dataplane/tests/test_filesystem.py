"""The store in a shared file system."""

import errno
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from htcgrid_dataplane import PayloadMissing, StoreFull, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.conformance import RelayConformance, StoreConformance
from htcgrid_dataplane.filesystem import MARKER, FilesystemStore

KEY = "tenant/session/results/0.1"
NO_PATIENCE = timedelta(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    FilesystemStore.prepare(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[FilesystemStore]:
    store = FilesystemStore(folder, NO_PATIENCE)
    yield store
    store.close()


class TestConformance(StoreConformance, RelayConformance):
    @pytest.fixture
    def store(self, folder: Path) -> Iterator[FilesystemStore]:
        store = FilesystemStore(folder, NO_PATIENCE)
        yield store
        store.close()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


def test_a_mount_that_is_missing_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(StoreMisconfigured, match=r"is not a payload store, .* mount the file system there") as refusal:
        FilesystemStore(tmp_path)
    assert not refusal.value.retryable
    with pytest.raises(StoreMisconfigured, match="No such file"):
        FilesystemStore(tmp_path / "none")


def test_nothing_is_written_into_the_folder_under_a_mount_that_goes_away(store: FilesystemStore, folder: Path) -> None:
    folder.rename(folder.with_name("unmounted"))
    folder.mkdir()
    store.put(KEY, b"1")
    assert not list(folder.iterdir())
    assert store.get(KEY, 1) == b"1"


def test_what_is_replaced_leaves_nothing(store: FilesystemStore, folder: Path) -> None:
    store.put(KEY, b"first")
    store.put(KEY, b"other")
    assert store.get(KEY, 5) == b"other"
    assert len(files(folder)) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_and_a_full_quota_are_told_apart_and_leave_nothing(
    store: FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreFull, match=f"did not take {KEY}") as refusal:
        store.put(KEY, b"1")
    with pytest.raises(StoreFull, match=f"did not take a part of {KEY}"):
        store.put_part(f"{KEY}0", "0" * 32, 0, b"1")
    assert refusal.value.retryable
    assert [path.stat().st_size for path in files(folder)] in ([0], [1])


def test_a_late_part_of_a_finished_upload_changes_nothing(store: FilesystemStore, folder: Path) -> None:
    upload = "0" * 32
    store.put_part(KEY, upload, 0, b"first")
    assert store.finish(KEY, upload, 5)
    store.put_part(KEY, upload, 0, b"other")
    assert store.get(KEY, 5) == b"first"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN])
def test_a_mount_that_was_lost_is_found_again_and_never_what_lies_under_it(
    store: FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.put(KEY, b"1")
    root, opened = store._opened_root, os.open

    def lost(path: Path | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if root and dir_fd == root.descriptor:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", lost)
    with pytest.raises(StoreUnavailable, match=os.strerror(number)):
        store.get(KEY, 1)
    (folder / MARKER).rename(folder.parent / "away")
    for request in (lambda: store.get(KEY, 1), lambda: store.put(f"{KEY}0", b"2")):
        with pytest.raises(StoreUnavailable, match="mount the file system there"):
            request()
    assert len(files(folder)) == 1
    (folder.parent / "away").rename(folder / MARKER)
    assert store.get(KEY, 1) == b"1"


def test_a_file_that_another_host_has_just_written_is_waited_for(folder: Path) -> None:
    waits: list[float] = []
    writer = FilesystemStore(folder, NO_PATIENCE)

    def another_host_writes(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            writer.put(KEY, b"late")

    reader = FilesystemStore(folder, timedelta(seconds=1), sleep=another_host_writes)
    assert reader.get(KEY, 4) == b"late"
    with pytest.raises(PayloadMissing):
        reader.get(f"{KEY}0", 4)
    assert sum(waits[3:]) == pytest.approx(1)


def test_only_two_levels_of_few_folders_are_made(store: FilesystemStore, folder: Path) -> None:
    for number in range(300):
        store.put(f"tenant/session/results/{number}.1", b"1")
    places = files(folder)
    assert {len(place.relative_to(folder).parts) for place in places} == {3}
    assert max(sum(1 for place in places if place.parent == parent) for parent in {p.parent for p in places}) <= 4


def test_a_store_whose_folder_vanishes_is_unavailable(store: FilesystemStore, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(StoreUnavailable, match="did not take") as refusal:
        store.put(KEY, b"1")
    assert refusal.value.retryable
