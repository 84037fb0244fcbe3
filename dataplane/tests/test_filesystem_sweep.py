"""What expires in the store in a shared file system, and who removes it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from htcgrid_dataplane import PayloadMissing, StoreUnavailable, TendedStore
from htcgrid_dataplane.filesystem import MARKER, FilesystemStore, payload_path

KEY = "tenant/session/results/0.1"
DAY = 86_400
KEEP = timedelta(days=3)


class Clock:
    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    FilesystemStore.prepare(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(folder: Path, clock: Clock) -> Callable[[], FilesystemStore]:
    """Opens the store as another host does."""
    return lambda: FilesystemStore(folder, timedelta(0), KEEP, now=clock)


def go_on(seconds: float) -> bool:
    return False


def age(folder: Path, name: str, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(folder / name, (moment, moment))


def there(store: FilesystemStore, key: str) -> bool:
    try:
        return store.get(key, 1) == b"1"
    except PayloadMissing:
        return False


def test_payloads_go_that_are_older_than_they_are_kept(host: Callable[[], FilesystemStore], folder: Path) -> None:
    store: TendedStore = host()
    payloads = host()
    for number in range(1000):
        payloads.put(f"{KEY}{number}", b"1")
        age(folder, str(payload_path(f"{KEY}{number}")), 3.1 if number % 2 else 2.9)
    assert store.tend(go_on) == 500
    assert [there(payloads, f"{KEY}{number}") for number in range(1000)] == [True, False] * 500
    assert (folder / MARKER).exists()


def test_what_became_no_payload_goes_after_a_day(host: Callable[[], FilesystemStore], folder: Path) -> None:
    store, upload = host(), "0" * 32
    store.put_part(KEY, upload, 0, b"1")
    [unfinished] = payload_files(folder)
    age(folder, unfinished, 0.9)
    store.put_part(f"{KEY}0", upload, 0, b"1")
    assert store.finish(f"{KEY}0", upload, 1)
    age(folder, str(payload_path(f"{KEY}0")), 1.1)
    # The other name of an upload that became a payload goes, and the payload stays.
    assert store.tend(go_on) == 1
    assert there(store, f"{KEY}0")
    assert store.finish(KEY, upload, 1)
    age(folder, unfinished, 1.1)
    other = host()
    other._now = lambda: time.time() + DAY
    assert other.tend(go_on) == 1
    assert there(store, KEY)


def payload_files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.glob("*/*/*")]


def test_hosts_sweep_once_a_day_together(host: Callable[[], FilesystemStore], clock: Clock) -> None:
    hosts = [host() for _ in range(4)]
    for _ in range(3):
        assert [store.tend(go_on) is None for store in hosts] == [False, True, True, True]
        clock.seconds += DAY - 2
        assert [store.tend(go_on) for store in hosts] == [None] * 4
        clock.seconds += 3
    clock.seconds -= 400 * DAY
    assert hosts[0].tend(go_on) == 0, "the clock of a host was wrong"


def test_nothing_is_swept_without_a_limit(folder: Path) -> None:
    assert FilesystemStore(folder).tend(go_on) is None
    assert [path.name for path in folder.iterdir()] == [MARKER]


def test_while_one_host_sweeps_no_other_does(host: Callable[[], FilesystemStore], folder: Path) -> None:
    first, other, pauses = host(), host(), []
    for number in range(300):
        first.put(f"{KEY}{number}", b"1")

    def meanwhile(seconds: float) -> bool:
        pauses.append((seconds, other.tend(go_on)))
        return False

    assert first.tend(meanwhile) == 0
    assert {swept for _, swept in pauses} == {None}
    # 300 files in some 300 folders, at most 500 in a second.
    assert len(pauses) > 5
    assert 1 < sum(seconds for seconds, _ in pauses) < 1.3


def test_who_must_stop_leaves_the_rest_to_the_next(host: Callable[[], FilesystemStore], folder: Path) -> None:
    store = host()
    for number in range(300):
        store.put(f"{KEY}{number}", b"1")
        age(folder, str(payload_path(f"{KEY}{number}")), 4)
    removed = [store.tend(lambda seconds: True) for _ in range(3)]
    rest = store.tend(go_on)
    assert all(0 < some < 60 for some in removed if some is not None)
    assert sum(some or 0 for some in (*removed, rest)) == 300
    assert host().tend(go_on) is None


SWEEPER = """
import sys
import time
from datetime import timedelta
from pathlib import Path
from htcgrid_dataplane.filesystem import FilesystemStore

def pause(seconds):
    print("sweeping", flush=True)
    time.sleep(3600)

FilesystemStore(Path(sys.argv[1]), keep=timedelta(days=3)).tend(pause)
"""


def test_after_a_sweeper_that_was_killed_another_host_goes_on(
    host: Callable[[], FilesystemStore], folder: Path
) -> None:
    store = host()
    for number in range(300):
        store.put(f"{KEY}{number}", b"1")
        age(folder, str(payload_path(f"{KEY}{number}")), 4)
    with subprocess.Popen([sys.executable, "-c", SWEEPER, str(folder)], stdout=subprocess.PIPE) as sweeper:
        assert sweeper.stdout
        assert sweeper.stdout.readline() == b"sweeping\n"
        assert store.tend(go_on) is None
        left = len(payload_files(folder))
        assert left < 300
        sweeper.send_signal(signal.SIGKILL)
        sweeper.wait()
    # Some 25 of 256 folders hold the first files: these are not looked at again.
    reached = int((folder / ".htcgrid-sweep").read_text().split()[1])
    assert 10 < reached < 60
    assert store.tend(go_on) == left


WRITER = """
import os
import sys
import time
from pathlib import Path
from htcgrid_dataplane.filesystem import FilesystemStore

def written(file):
    print("written", flush=True)
    time.sleep(3600)

os.fsync = written
FilesystemStore(Path(sys.argv[1])).put(sys.argv[2], b"1" * 3_000_000)
"""


@pytest.mark.parametrize("before", [False, True])
def test_of_a_writer_that_was_killed_nothing_is_seen(
    host: Callable[[], FilesystemStore], folder: Path, *, before: bool
) -> None:
    store = host()
    if before:
        store.put(KEY, b"1")
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder), KEY], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert there(store, KEY) == before
    [left] = [name for name in payload_files(folder) if "/.+" in name]
    age(folder, left, 1.1)
    assert store.tend(go_on) == 1
    assert not [name for name in payload_files(folder) if "/.+" in name]
    store.put(KEY, b"1")
    assert there(store, KEY)


def test_a_state_that_says_nothing_is_made_anew(host: Callable[[], FilesystemStore], folder: Path) -> None:
    store = host()
    for text in ("", "no", "1" * 40):
        (folder / ".htcgrid-sweep").write_text(text)
        assert store.tend(go_on) == 0
        assert host().tend(go_on) is None


def test_a_file_system_that_keeps_no_locks_is_told(
    host: Callable[[], FilesystemStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StoreUnavailable, match=r"cannot be swept .*: Function not implemented"):
        host().tend(go_on)
