"""The store in real file systems that fill, may only be read, or go away, each mounted for one program alone."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

HEAD = """
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from htcgrid_dataplane import PayloadMissing, StoreFull, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.filesystem import MARKER, FilesystemStore

KEY = "tenant/session/results/0.1"


def mount(*options):
    subprocess.run(["mount", *options, mounted], check=True)


def files():
    return [path for path in mounted.rglob("*") if path.is_file() and path.name != MARKER]


mounted = Path(sys.argv[1])
mount("-t", "tmpfs", "-o", f"mode=0700,{sys.argv[2]}", "none")
FilesystemStore.prepare(mounted)
store = FilesystemStore(mounted, timedelta(0))
store.put(KEY, b"kept")
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    folder = tmp_path / "mount"
    folder.mkdir()
    return folder


def run(body: str, mounted: Path, options: str = "size=1m") -> None:
    """Run a program that may mount, and whose mounts nobody else sees."""
    namespaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    program = [sys.executable, "-c", HEAD + dedent(body), str(mounted), options]
    done = subprocess.run(["unshare", *namespaces, *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_disk_that_is_full_takes_payloads_again_when_it_has_room(mounted: Path) -> None:
    run(
        """
        for take in (
            lambda: store.put(f"{KEY}0", bytes(2_000_000)),
            lambda: store.put_part(f"{KEY}0", "0" * 32, 0, bytes(2_000_000)),
        ):
            with pytest.raises(StoreFull, match="No space left"):
                take()
        payload, part = sorted(files(), key=lambda path: path.name, reverse=True)
        assert part.name.startswith(".+"), "what a client uploads in parts may be put again"
        part.unlink()
        store.put(f"{KEY}0", bytes(500_000))
        assert store.get(f"{KEY}0", 500_000) == bytes(500_000)
        assert store.get(KEY, 4) == b"kept"
        """,
        mounted,
    )


def test_a_disk_without_room_for_names_is_full(mounted: Path) -> None:
    run(
        """
        with pytest.raises(StoreFull, match="No space left"):
            for number in range(10):
                store.put(f"{KEY}{number}", b"1")
        assert store.get(KEY, 4) == b"kept"
        """,
        mounted,
        options="nr_inodes=10",
    )


def test_a_mount_that_may_only_be_read_is_read(mounted: Path) -> None:
    run(
        """
        upload = "0" * 32
        store.put_part(f"{KEY}1", upload, 0, b"1")
        mount("-o", "remount,bind,ro")
        for write in (
            lambda: store.put(KEY, b"more"),
            lambda: store.put(f"{KEY}0", b"1"),
            lambda: store.put_part(f"{KEY}0", upload, 0, b"1"),
            lambda: store.put_part(f"{KEY}1", upload, 0, b"1"),
            lambda: store.finish(f"{KEY}1", upload, 1),
            lambda: FilesystemStore(mounted, keep=timedelta(hours=1)).tend(lambda seconds: False),
        ):
            with pytest.raises(StoreUnavailable, match="Read-only file system") as refusal:
                write()
            assert refusal.value.retryable
        assert FilesystemStore(mounted, timedelta(0)).get(KEY, 4) == b"kept"
        """,
        mounted,
    )


def test_nothing_is_written_into_the_folder_under_a_mount_that_goes_away(mounted: Path) -> None:
    run(
        """
        subprocess.run(["umount", "--lazy", mounted], check=True)
        store.put(f"{KEY}0", b"on the file system")
        assert store.get(f"{KEY}0", 18) == b"on the file system"
        assert not list(mounted.iterdir())
        with pytest.raises(StoreMisconfigured, match="mount the file system there"):
            FilesystemStore(mounted)
        assert not list(mounted.iterdir())
        """,
        mounted,
    )


def test_a_store_that_is_closed_keeps_no_mount_busy(mounted: Path) -> None:
    run(
        """
        parts = store.stream(KEY, 4)
        next(parts)
        assert subprocess.run(["umount", mounted], check=False, stderr=subprocess.DEVNULL).returncode
        parts.close()
        store.close()
        subprocess.run(["umount", mounted], check=True)
        """,
        mounted,
    )


def test_a_file_system_that_is_mounted_becomes_a_store_by_itself(mounted: Path) -> None:
    run(
        """
        (mounted / MARKER).unlink()
        FilesystemStore(mounted, timedelta(0)).put(f"{KEY}0", b"1")
        assert (mounted / MARKER).exists()
        (mounted / "below").mkdir()
        with pytest.raises(StoreMisconfigured, match="prepare a new one"):
            FilesystemStore(mounted / "below")
        """,
        mounted,
    )
