"""The store in a shared file system."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from htcgrid_dataplane import PayloadMissing, StoreFull, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.conformance import StoreConformance
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


class TestConformance(StoreConformance):
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


def test_a_full_file_system_is_told_apart_and_leaves_nothing(
    store: FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull, match=f"did not take {KEY}") as refusal:
        store.put(KEY, b"1")
    assert refusal.value.retryable
    assert not files(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_a_disk_that_fills_and_one_that_may_only_be_read(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mount)], check=True)
    try:
        FilesystemStore.prepare(mount)
        store = FilesystemStore(mount, NO_PATIENCE)
        store.put(KEY, b"kept")
        with pytest.raises(StoreFull, match="No space left"):
            store.put(f"{KEY}0", bytes(2_000_000))
        assert len(files(mount)) == 1
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with pytest.raises(StoreUnavailable, match="Read-only file system"):
            store.put(f"{KEY}1", b"1")
        assert store.get(KEY, 4) == b"kept"
        store.close()
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_writer_that_was_killed_leaves_no_payload_in_part(store: FilesystemStore, folder: Path) -> None:
    store.put(KEY, b"1")
    [payload] = files(folder)
    # What is left of a writer that died before it gave the payload its name.
    (payload.parent / ".beside.new").write_bytes(b"half")
    assert store.get(KEY, 1) == b"1"
    assert store.expire(timedelta(days=1), now=lambda: payload.stat().st_mtime + 90_000) == 2


def test_payloads_expire_by_their_age(store: FilesystemStore, folder: Path) -> None:
    store.put(KEY, b"old")
    [payload] = files(folder)
    os.utime(payload, (1_000, 1_000))
    store.put(f"{KEY}0", b"new")
    assert store.expire(timedelta(days=1)) == 1
    with pytest.raises(PayloadMissing):
        store.get(KEY, 3)
    assert store.get(f"{KEY}0", 3) == b"new"
    assert (folder / MARKER).exists()


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
