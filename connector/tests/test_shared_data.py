"""Data that tasks share, put into a grid and fetched from it."""

import asyncio
import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from connector.tests.stub_grid import Answer, StubGrid

import htcgrid._data.source
from htcgrid import AsyncGrid, DataNotFound, Grid, InvalidData, RequestRejected, ResultsUnavailable, SharedData
from htcgrid._data.source import opened
from htcgrid_events import DataReference, DataState

MB = 1024 * 1024


def reference_of(data: Path | str | bytes, name: str | None = None) -> DataReference:
    with opened(data, name) as source:
        return source.reference


def a_folder(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return root / "folder"


# --- what is put ---


def test_a_file_and_bytes_of_one_content_are_one_data(tmp_path: Path) -> None:
    file = tmp_path / "curves.bin"
    file.write_bytes(b"curves")
    found = reference_of(file)
    assert found == DataReference(sha256=hashlib.sha256(b"curves").hexdigest(), bytes=6, name="curves.bin")
    assert reference_of(b"curves", "curves.bin") == found
    assert reference_of(b"curves").name == "data"
    assert reference_of(str(file), "other").name == "other"


def test_a_file_that_changes_while_it_is_put_is_not_there(grid: Grid, stub: StubGrid, tmp_path: Path) -> None:
    file = tmp_path / "curves.bin"
    file.write_bytes(b"a" * 40_000_000)

    def change(_: int) -> None:
        with file.open("r+b") as content:
            content.write(b"b")

    with pytest.raises(InvalidData, match=r"curves.bin has changed while it was put: put it again"):
        grid.put(file, progress=change)
    assert [record.state for record in grid.data()] == [DataState.UPLOADING]
    assert grid.put(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_folder_is_the_same_whoever_packs_it_and_when(tmp_path: Path) -> None:
    names = ("b", *(f"{folder}/file" for folder in "zyxcdeaä"), "a/b/c")
    one = a_folder(tmp_path / "one", names)
    before = os.umask(0o077)
    try:
        two = a_folder(tmp_path / "two", names[::-1])
    finally:
        os.umask(before)
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
    assert reference_of(one) == reference_of(two)
    (two / "b").chmod(0o700)
    assert reference_of(one) != reference_of(two)


def test_an_empty_file_and_an_empty_folder_are_data(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert reference_of(tmp_path / "file").bytes == 0
    found = reference_of(tmp_path / "folder")
    assert (found.folder, found.bytes > 0) == (True, True)


def test_links_and_sockets_in_a_folder_are_refused_by_their_path(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, ("file",))
    (folder / "link").symlink_to("file")
    with pytest.raises(InvalidData, match="folder/link is neither a file nor a folder"):
        reference_of(folder)
    (folder / "link").unlink()
    with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/listening")
        for path in (Path(short), Path(short, "listening")):
            with pytest.raises(InvalidData, match="listening is neither a file nor a folder"):
                reference_of(path)


def test_what_cannot_be_put_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidData, match="nowhere cannot be read: No such file or directory"):
        reference_of(tmp_path / "nowhere")
    for name in ("a/b", "..", "x" * 256, "\n"):
        with pytest.raises(InvalidData, match="cannot be the name of shared data"):
            reference_of(b"", name)
    monkeypatch.setattr(htcgrid._data.source, "MAX_DATA_BYTES", 5)
    assert reference_of(b"12345").bytes == 5
    with pytest.raises(InvalidData, match="data has 6 bytes, and shared data may have 5"):
        reference_of(b"123456")


def test_a_file_that_becomes_shorter_is_not_put(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"123456")
    with opened(file, None) as source:
        file.write_bytes(b"123")
        with pytest.raises(InvalidData, match="has become shorter"):
            source.part(0, 6)


# --- on its way in ---


def test_data_is_uploaded_in_parts_once(stub: StubGrid, grid: Grid) -> None:
    stub.data.part_bytes = 10
    content = bytes(range(95))
    sent: list[int] = []
    data = grid.put(content, name="numbers", progress=sent.append)
    assert isinstance(data, SharedData)
    assert stub.data.stored(data.sha256) == content
    assert (sum(sent), stub.count("PUT /parts/"), stub.count("complete")) == (95, 10, 1)
    assert grid.put(content, name="numbers") == data
    assert (stub.count("PUT /parts/"), stub.count("complete")) == (10, 1)


def test_an_empty_file_is_uploaded(stub: StubGrid, grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    data = grid.put(tmp_path / "empty")
    assert stub.data.stored(data.sha256) == b""
    assert Path(str(grid.resolve(data, tmp_path / "cache"))).read_bytes() == b""


def test_a_part_that_lies_there_already_is_taken(stub: StubGrid, grid: Grid) -> None:
    stub.data.part_bytes = 10
    sha256 = hashlib.sha256(b"x" * 25).hexdigest()
    stub.payloads[f"/parts/{sha256}/1"] = b"x" * 10
    assert grid.put(b"x" * 25).sha256 == sha256
    assert stub.data.stored(sha256) == b"x" * 25


def test_a_part_is_sent_again_when_the_data_plane_was_busy(stub: StubGrid, grid: Grid) -> None:
    stub.data.part_bytes = 10
    stub.fail("PUT /parts/.*/1", Answer(503, b"SlowDown"), Answer(0))
    data = grid.put(b"y" * 25)
    assert stub.data.stored(data.sha256) == b"y" * 25


def test_an_upload_that_is_refused_is_told(stub: StubGrid, grid: Grid) -> None:
    stub.fail("PUT /parts/", Answer(403, b"AccessDenied"))
    with pytest.raises(RequestRejected, match="status 403"):
        grid.put(b"z")
    assert stub.count("complete") == 0


# --- on its way out ---


def test_paths_stand_in_place_of_references(stub: StubGrid, grid: Grid, tmp_path: Path) -> None:
    data = grid.put(b"curves", name="curves.bin")
    event = {"a": [data, 1], "b": {"c": data}, "d": {"$data": 1, "more": 2}}
    resolved: Any = grid.resolve(event, tmp_path / "cache")
    path = Path(resolved["a"][0])
    assert resolved == {"a": [str(path), 1], "b": {"c": str(path)}, "d": {"$data": 1, "more": 2}}
    assert (path.name, path.read_bytes(), path.stat().st_mode & 0o222) == ("curves.bin", b"curves", 0)
    requests = len(stub.requests)
    assert grid.resolve(event, tmp_path / "cache") == resolved
    assert len(stub.requests) == requests


@pytest.mark.parametrize("name", ["folder", "stored", "made"])
def test_a_folder_is_unpacked(grid: Grid, tmp_path: Path, name: str) -> None:
    folder = a_folder(tmp_path, ("a/b/c", "d"))
    (folder / "empty").mkdir()
    (folder / "d").chmod(0o755)
    path = Path(str(grid.resolve(grid.put(folder, name=name), tmp_path / "cache")))
    assert path.name == name
    assert sorted(str(each.relative_to(path)) for each in path.rglob("*")) == ["a", "a/b", "a/b/c", "d", "empty"]
    assert (path / "a/b/c").read_text() == "content of a/b/c"
    assert [(path / each).stat().st_mode & 0o333 for each in ("a/b/c", "d")] == [0, 0o111]


def test_large_data_is_fetched_in_ranges(stub: StubGrid, grid: Grid, tmp_path: Path) -> None:
    content = os.urandom(MB) * 40
    data = grid.put(content)
    assert Path(str(grid.resolve(data, tmp_path))).read_bytes() == content
    assert stub.count("GET /data/") == 3


def leaves_nothing(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.is_file()]


def test_data_that_is_not_what_its_digest_says_is_refused(stub: StubGrid, grid: Grid, tmp_path: Path) -> None:
    data = grid.put(b"curves")
    stub.payloads[f"/data/{data.sha256}"] = b"curve5"
    with pytest.raises(ResultsUnavailable, match="is not what its digest says"):
        grid.resolve(data, tmp_path)
    stub.payloads[f"/data/{data.sha256}"] = b"cur"
    with pytest.raises(ResultsUnavailable, match="other bytes"):
        grid.resolve(data, tmp_path)
    assert leaves_nothing(tmp_path)


def test_data_that_is_gone_or_not_all_there_is_told(stub: StubGrid, grid: Grid, tmp_path: Path) -> None:
    data = grid.put(b"curves", name="curves.bin")
    stub.data.records[data.sha256] = stub.data.records[data.sha256].model_copy(update={"state": DataState.UPLOADING})
    with pytest.raises(ResultsUnavailable, match=r"curves\.bin is not all there"):
        grid.resolve(data, tmp_path)
    assert grid.delete_data(data.sha256)
    with pytest.raises(DataNotFound):
        grid.resolve(data, tmp_path)
    with pytest.raises(ResultsUnavailable, match="by what is no reference"):
        grid.resolve({"$data": {"sha256": "../.."}}, tmp_path)
    assert leaves_nothing(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-of-it"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(grid: Grid, tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    data = grid.put(buffer.getvalue(), name="folder")
    with pytest.raises(ResultsUnavailable, match=r"folder cannot be unpacked: its entry .* would be outside"):
        grid.resolve({"$data": data["$data"] | {"folder": True}}, tmp_path / "cache")
    assert leaves_nothing(tmp_path)


# --- what is there ---


def test_data_is_listed_over_pages_and_deleted(stub: StubGrid, grid: Grid) -> None:
    stub.page_size = 2
    put = sorted(grid.put(f"{number}".encode()).sha256 for number in range(5))
    assert [record.reference.sha256 for record in grid.data()] == put
    stub.data.used.add(put[0])
    with pytest.raises(RequestRejected, match="status 409"):
        grid.delete_data(put[0])
    assert grid.delete_data(put[0], force=True)
    assert not grid.delete_data(put[0], force=True)
    assert [record.reference.sha256 for record in grid.data()] == put[1:]


@pytest.mark.parametrize("digest", ["", "0" * 63, "A" * 64, "../sessions"])
def test_what_is_no_digest_reaches_no_grid(stub: StubGrid, grid: Grid, digest: str) -> None:
    with pytest.raises(InvalidData, match="is no digest"):
        grid.delete_data(digest)
    assert stub.count("DELETE") == 0


def test_an_asynchronous_grid_does_the_same(stub: StubGrid, tmp_path: Path) -> None:
    stub.page_size = 1
    resolved: list[str] = []

    async def scenario() -> None:
        async with await AsyncGrid.connect(stub.profile(), request_timeout=60) as grid:
            folder = await grid.put(a_folder(tmp_path, ("a/b",)))
            data = await grid.put(b"curves")
            listed = [record.reference.sha256 async for record in grid.data()]
            assert listed == sorted([folder.sha256, data.sha256])
            resolved.extend(await grid.resolve([data, folder], tmp_path / "cache"))  # type: ignore[arg-type]
            await grid.submit([data], preload=True)
            assert await grid.delete_data(data.sha256)

    asyncio.run(asyncio.wait_for(scenario(), 300))
    assert [each["bytes"] for each in stub.data.named[-1]["preload"]] == [6]
    file, unpacked = resolved
    assert Path(file).read_bytes() == b"curves"
    assert Path(unpacked, "a/b").read_text() == "content of a/b"


PASSED_ON = """
import os, resource, sys
from htcgrid import Grid
with Grid.connect() as grid:
    data = grid.put(sys.argv[1], name="small.bin")
    grid.resolve(data, sys.argv[3])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = grid.put(sys.argv[2])
    path = grid.resolve(data, sys.argv[3])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, os.path.getsize(path))
"""


def test_memory_stays_small_while_200_mb_pass(stub: StubGrid, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for file, size in ((small, 16 * MB), (large, 200 * MB)):
        with file.open("wb") as sparse:
            sparse.truncate(size)
    environment = {**os.environ, "HTCGRID_PROFILE": str(stub.profile().save(tmp_path / "profile.json"))}
    command = [sys.executable, "-c", PASSED_ON, str(small), str(large), str(tmp_path / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    grown_kb, size = map(int, done.stdout.split())
    assert size == 200 * MB
    assert grown_kb * 1024 < 176 * MB  # four parts of 16 MB on their way, each of which lies in memory twice
