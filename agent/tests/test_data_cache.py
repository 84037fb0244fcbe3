"""The cache of shared data of a node: one download for all, within its limit, whatever dies."""

import errno
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agent.tests.embedded import until

from htcgrid_agent.errors import BadSettings
from htcgrid_agent.shared_data.cache import DataCache, Item
from htcgrid_agent.shared_data.errors import DataUnavailable, DataUnusable, FetchStopped
from htcgrid_agent.shared_data.folder import DataFolder
from htcgrid_agent.shared_data.item_lock import ItemLock
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_dataplane import PayloadMissing, StoreUnavailable, archive, data_key
from htcgrid_events import DataReference

MB = 1024 * 1024
NEVER = threading.Event()
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
PROGRAM = Path(__file__).with_name("data_process.py")


@dataclass
class Store:
    """What lies in the bucket, and how often it was asked."""

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: int = 0
    during: Callable[[], None] = lambda: None

    def put(self, data: bytes, name: str = "data.bin", *, folder: bool = False, tenant: str = "tenant") -> Item:
        digest = hashlib.sha256(data).hexdigest()
        self.objects[data_key(tenant, digest)] = data
        return Item(tenant, DataReference(sha256=digest, bytes=len(data), name=name, folder=folder))

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        self.asked += 1
        if key not in self.objects:
            raise PayloadMissing(f"no payload lies under {key}")
        data = self.objects[key]
        yield data[: len(data) // 2]
        self.during()
        yield data[len(data) // 2 :]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


@pytest.fixture
def cache(folder: DataFolder, store: Store) -> DataCache:
    return DataCache(folder, MB, store.stream, Metrics())


def as_owner(path: Path) -> list[str]:
    """What lies in `files`, which nobody may list."""
    path.chmod(0o700)
    try:
        return sorted(each.name for each in path.iterdir())
    finally:
        path.chmod(0o311)


def is_empty(folder: DataFolder) -> bool:
    return not any([*as_owner(folder.files), *folder.items.iterdir(), *(folder.root / "incoming").iterdir()])


def test_what_was_fetched_is_read_only_and_found_without_asking_again(cache: DataCache, store: Store) -> None:
    item = store.put(b"curves", "curves.parquet")
    assert cache.try_hold(item) is None
    hold, again = cache.fetch(item, NEVER), cache.try_hold(item)
    assert again
    assert hold.path == again.path
    assert hold.path.name == "curves.parquet"
    assert hold.path.read_bytes() == b"curves"
    assert stat.S_IMODE(hold.path.stat().st_mode) == 0o444
    assert stat.S_IMODE(hold.path.parent.stat().st_mode) == 0o555
    assert store.asked == 1


def test_the_folder_tells_workers_nothing(folder: DataFolder, cache: DataCache, store: Store) -> None:
    hold = cache.fetch(store.put(b"mine", tenant="one"), NEVER)
    other = cache.fetch(store.put(b"mine", tenant="two"), NEVER)
    assert hold.path != other.path
    assert hashlib.sha256(b"mine").hexdigest()[:10] not in str(hold.path)
    assert stat.S_IMODE(folder.files.stat().st_mode) == 0o311
    for closed, mode in (("items", 0o700), ("incoming", 0o700), ("secret", 0o600), ("lock", 0o600)):
        assert stat.S_IMODE((folder.root / closed).stat().st_mode) == mode


def test_one_item_is_found_under_each_name_that_refers_to_it(cache: DataCache, store: Store) -> None:
    first = cache.fetch(store.put(b"same", "a.bin"), NEVER)
    second = cache.fetch(store.put(b"same", "b.bin"), NEVER)
    assert (second.path.name, second.path.read_bytes(), store.asked) == ("b.bin", b"same", 1)
    assert first.path.parent == second.path.parent
    for number in range(62):
        cache.fetch(store.put(b"same", f"{number}.bin"), NEVER).release()
    with pytest.raises(DataUnusable, match="64 other names"):
        cache.fetch(store.put(b"same", "one too many"), NEVER)


def test_the_empty_file_is_data_too(cache: DataCache, store: Store) -> None:
    assert cache.fetch(store.put(b""), NEVER).path.read_bytes() == b""


def test_another_digest_than_announced_leaves_nothing(folder: DataFolder, cache: DataCache, store: Store) -> None:
    item = store.put(b"right")
    store.objects[data_key("tenant", item.reference.sha256)] = b"wrong"
    with pytest.raises(DataUnusable, match="another digest") as error:
        cache.fetch(item, NEVER)
    assert error.value.kind == "DataCorrupt"
    assert is_empty(folder)


def test_missing_data_says_what_to_do(folder: DataFolder, cache: DataCache, store: Store) -> None:
    item = store.put(b"gone", "curves.parquet")
    store.objects.clear()
    with pytest.raises(DataUnusable, match=r"curves\.parquet .* is missing: put it again") as error:
        cache.fetch(item, NEVER)
    assert error.value.kind == "DataMissing"
    assert is_empty(folder)


def test_a_store_that_does_not_answer_passes(folder: DataFolder, cache: DataCache, store: Store) -> None:
    def unreachable() -> None:
        raise StoreUnavailable("S3 did not give it")

    item = store.put(b"data")
    store.during = unreachable
    with pytest.raises(DataUnavailable, match="S3 did not give it"):
        cache.fetch(item, NEVER)
    assert is_empty(folder)
    store.during = lambda: None
    assert cache.fetch(item, NEVER).path.read_bytes() == b"data"


def test_a_full_disk_passes_and_frees_what_it_can(folder: DataFolder, cache: DataCache, store: Store) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache.fetch(store.put(b"old"), NEVER).release()
    used = cache.fetch(store.put(b"used"), NEVER)
    store.during = full
    with pytest.raises(DataUnavailable, match="disk of HTCGRID_DATA_DIR is full"):
        cache.fetch(store.put(b"new" * 100_000), NEVER)
    assert as_owner(folder.files) == [used.path.parent.name]


def test_fetching_ends_when_the_agent_ends(folder: DataFolder, cache: DataCache, store: Store) -> None:
    stopped = threading.Event()
    store.during = stopped.set
    with pytest.raises(FetchStopped):
        cache.fetch(store.put(b"data"), stopped)
    assert is_empty(folder)


# --- its limit ---


def test_what_was_not_used_for_longest_makes_room(cache: DataCache, store: Store) -> None:
    items = [store.put(bytes([number]) * 300_000) for number in range(4)]
    for number, item in enumerate(items[:3]):
        hold = cache.fetch(item, NEVER)
        hold.release()
        os.utime(hold.path.parents[2] / "items" / hold.path.parent.name, (number, number))
    first = cache.try_hold(items[0])
    assert first
    cache.fetch(items[3], NEVER)
    assert cache.try_hold(items[1]) is None
    assert first.path.exists()
    assert cache.try_hold(items[2])
    assert cache.kept_bytes() == 900_000


def test_what_is_in_use_is_never_removed(cache: DataCache, store: Store) -> None:
    holds = [cache.fetch(store.put(bytes([number]) * 300_000), NEVER) for number in range(3)]
    with pytest.raises(DataUnavailable, match="full of what is in use"):
        cache.fetch(store.put(b"x" * 300_000), NEVER)
    assert all(hold.path.exists() for hold in holds)
    holds[0].release()
    cache.fetch(store.put(b"x" * 300_000), NEVER)
    assert not holds[0].path.exists()


def test_nothing_newer_is_removed_for_what_is_preloaded(cache: DataCache, store: Store) -> None:
    item = store.put(b"x" * 600_000)
    cache.fetch(store.put(b"y" * 600_000), NEVER).release()
    with pytest.raises(DataUnavailable):
        cache.fetch(item, NEVER, used_before=1.0)
    cache.fetch(item, NEVER, used_before=float("inf"))


def test_small_items_count_as_more_than_their_bytes(folder: DataFolder, cache: DataCache, store: Store) -> None:
    for number in range(20):
        cache.fetch(store.put(b"%d" % number), NEVER).release()
    assert len(as_owner(folder.files)) == 16


def test_what_is_larger_than_the_limit_fails_and_names_the_setting(cache: DataCache, store: Store) -> None:
    with pytest.raises(DataUnusable, match="HTCGRID_DATA_MB") as error:
        cache.fetch(store.put(b"x" * (MB + 1)), NEVER)
    assert error.value.kind == "DataTooLarge"
    assert store.asked == 0


# --- several agents ---


@dataclass
class Source:
    """One object for processes of the cache."""

    folder: Path
    data: bytes

    def start(self, *words: str, limit: int = MB) -> "subprocess.Popen[str]":
        source = self.folder / "source"
        source.write_bytes(self.data)
        digest = hashlib.sha256(self.data).hexdigest()
        arguments = [self.folder / "data", source, self.folder / "log", limit, digest, len(self.data), *words]
        return subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    @property
    def downloads(self) -> int:
        return (self.folder / "log").read_text().count("GET")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path, b"market data" * 10_000)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate("")
    assert process.returncode == 0


def test_agents_that_want_the_same_wait_for_one_download(source: Source) -> None:
    first = source.start("slow")
    assert said(first) == "in the middle"
    others = [source.start() for _ in range(3)]
    assert first.stdin
    first.stdin.close()
    paths = {said(process) for process in (first, *others)}
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == source.data
    assert source.downloads == 1
    for process in others:
        end(process)
    first.wait()


def test_an_agent_that_is_killed_while_it_fetches_is_followed_by_the_next(source: Source, tmp_path: Path) -> None:
    first = source.start("slow")
    assert said(first) == "in the middle"
    waiting = source.start()
    first.kill()
    first.wait()
    assert Path(said(waiting)).read_bytes() == source.data
    assert source.downloads == 2
    assert not list((tmp_path / "data" / "incoming").iterdir())
    end(waiting)


def test_what_a_killed_agent_used_can_be_removed(source: Source, tmp_path: Path) -> None:
    user = source.start()
    path = Path(said(user))
    store = Store()
    cache = DataCache(DataFolder(tmp_path / "data"), 150_000, store.stream, Metrics())
    item = store.put(b"x" * 100_000)
    with pytest.raises(DataUnavailable):
        cache.fetch(item, NEVER)
    user.kill()
    user.wait()
    cache.fetch(item, NEVER)
    assert not path.exists()


KILLED = """
import os, signal, sys
from htcgrid_agent.shared_data import folder, item_lock
module, name, nth = sys.argv[1:4]
target = {"path": __import__("pathlib").Path, "lock": item_lock.ItemLock, "os": os}[module]
real, calls = getattr(target, name), []
def killing(*arguments, **named):
    calls.append(name)
    if len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(target, name, killing)
sys.argv = sys.argv[3:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
exec(open(sys.argv[1]).read().replace("sys.argv[1:]", "sys.argv[2:]"))
"""


@pytest.mark.parametrize(
    ("module", "name", "nth"),
    [
        ("path", "mkdir", 1),
        ("path", "mkdir", 3),
        ("path", "mkdir", 5),
        ("path", "chmod", 1),
        ("path", "chmod", 4),
        ("path", "chmod", 6),
        ("path", "replace", 1),
        ("path", "open", 1),
        ("path", "rename", 1),
        ("lock", "made_for", 1),
        ("lock", "take_alone", 1),
        ("lock", "reserve", 1),
        ("lock", "reserve", 2),
        ("lock", "touch", 1),
        ("lock", "touch", 2),
    ],
)
def test_whatever_step_an_agent_is_killed_at_the_next_one_succeeds(
    source: Source, tmp_path: Path, module: str, name: str, nth: int
) -> None:
    source.start().kill()
    digest = hashlib.sha256(source.data).hexdigest()
    words = [PROGRAM, tmp_path / "data", tmp_path / "source", tmp_path / "log", MB, digest, len(source.data)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, module, name, str(nth), *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert killed.returncode == -9, killed.stderr
    after = source.start()
    assert Path(said(after)).read_bytes() == source.data
    end(after)
    assert not list((tmp_path / "data" / "incoming").iterdir())


# --- its folder ---


def test_after_a_restart_of_the_node_it_begins_empty(
    folder: DataFolder, cache: DataCache, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = store.put(b"data")
    cache.fetch(item, NEVER).release()
    again = DataCache(DataFolder(folder.root), MB, store.stream, Metrics())
    assert again.try_hold(item)
    other = folder.root.parent / "boot_id"
    other.write_text("another boot\n")
    monkeypatch.setattr("htcgrid_agent.shared_data.folder._BOOT_ID", other)
    fresh = DataFolder(folder.root)
    assert DataCache(fresh, MB, store.stream, Metrics()).try_hold(item) is None
    assert is_empty(fresh)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadSettings, match="HTCGRID_DATA_DIR"):
        DataFolder(file)
    with pytest.raises(BadSettings, match="HTCGRID_DATA_DIR"):
        DataFolder(Path("/proc/nowhere"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 1234, 1234)
    with pytest.raises(BadSettings, match="belongs to user 1234"):
        DataFolder(theirs)


def test_a_lock_whose_file_was_removed_is_worth_nothing(tmp_path: Path) -> None:
    path = tmp_path / "item"
    mine, theirs = ItemLock.made_for(path), ItemLock.made_for(path)
    assert mine.take_alone()
    assert not theirs.take_shared()
    mine.forget()
    mine.close()
    assert not theirs.take_alone()
    assert ItemLock.of(path) is None


# --- folders ---


def tar(*entries: Any, end: bytes = b"") -> bytes:
    """An archive of entries: a name and its content, or a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                made.addfile(entry, io.BytesIO(b"x" * entry.size))
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                made.addfile(info, io.BytesIO(entry[1]))
    return buffer.getvalue() + end


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for field_name, value in more.items():
        setattr(info, field_name, value)
    return info


def test_a_folder_is_unpacked_read_only(cache: DataCache, store: Store) -> None:
    data = tar(
        entry("run.sh", mode=0o755, size=3),
        ("deep/er/file", b"content"),
        entry("empty", tarfile.DIRTYPE),
        entry("link", tarfile.SYMTYPE, "deep/er/file"),
        entry("same", tarfile.LNKTYPE, "deep/er/file"),
        end=bytes(10_240),
    )
    path = cache.fetch(store.put(data, "model", folder=True), NEVER).path
    assert path.name == "model"
    found = {str(each.relative_to(path)): stat.S_IMODE(each.lstat().st_mode) for each in path.rglob("*")}
    assert found == {
        "run.sh": 0o555,
        "deep": 0o555,
        "deep/er": 0o555,
        "deep/er/file": 0o444,
        "empty": 0o555,
        "link": 0o777,
        "same": 0o444,
    }
    assert (path / "link").read_bytes() == (path / "same").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no tar at all" * 100, "no tar archive"),
        (tar(("../out", b"x")), "outside"),
        (tar(("/etc/out", b"x")), "outside"),
        (tar(("a/../../out", b"x")), "outside"),
        (tar(entry("device", tarfile.CHRTYPE)), "neither"),
        (tar(entry("block", tarfile.BLKTYPE)), "neither"),
        (tar(entry("pipe", tarfile.FIFOTYPE)), "neither"),
        (tar(entry("out", tarfile.SYMTYPE, "/etc/passwd")), "leads out"),
        (tar(entry("out", tarfile.SYMTYPE, "../..")), "leads out"),
        (tar(entry("in", tarfile.SYMTYPE, "."), entry("out", tarfile.SYMTYPE, "in/..")), "leads out"),
        (tar(entry("loop", tarfile.SYMTYPE, "loop")), "leads to itself"),
        (tar(entry("out", tarfile.LNKTYPE, "../../secret")), "no file before"),
        (tar(entry("out", tarfile.LNKTYPE, "/etc/passwd")), "no file before"),
        (tar(entry("link", tarfile.SYMTYPE, "/tmp"), ("link/file", b"x")), "cannot be where"),
        (tar(("twice", b"x"), ("twice", b"y")), "cannot be where"),
        (tar(("file", b"x"), ("file/below", b"y")), "cannot be where"),
        (tar(("x" * 300, b"x")), "cannot be where"),
        (tar(("/".join("d" * 101), b"x")), "too deep"),
        (tar(("file", b"x" * 2000))[:1000], "tar"),
        (tar(*[entry(str(number)) for number in range(5)]), "more than 4 entries"),
    ],
)  # fmt: skip
def test_an_archive_that_would_do_harm_is_refused_and_leaves_nothing(
    folder: DataFolder, cache: DataCache, store: Store, data: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 4)
    outside = sorted(folder.root.parent.iterdir())
    with pytest.raises(DataUnusable, match=why) as error:
        cache.fetch(store.put(data, folder=True), NEVER)
    assert error.value.kind == "DataCorrupt"
    assert is_empty(folder)
    assert sorted(folder.root.parent.iterdir()) == outside


def test_sparse_entries_cannot_make_more_of_few_bytes(cache: DataCache, store: Store) -> None:
    info = entry("sparse", size=10)
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(2**40),
    }
    with pytest.raises(DataUnusable, match="neither"):
        cache.fetch(store.put(tar(info), folder=True), NEVER)


def test_threads_that_want_the_same_wait_for_one_download(cache: DataCache, store: Store) -> None:
    item = store.put(b"data" * 10_000)
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(cache.fetch(item, NEVER).path)) for _ in range(8)]

    def begin_the_others() -> None:
        for thread in threads:
            thread.start()

    store.during = begin_the_others
    cache.fetch(item, NEVER)
    until(lambda: len(paths) == 8)
    assert len(set(paths)) == store.asked == 1
