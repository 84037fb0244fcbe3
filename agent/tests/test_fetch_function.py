"""The command that puts a function into a pod."""

import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from agent.tests.harness import Place

from htcgrid_agent import fetch_function, unpacking
from htcgrid_agent.errors import FunctionNotFetched
from htcgrid_agent.fetch_function import main
from htcgrid_agent.runtimes.function_digest import function_digest
from htcgrid_agent.unpacking import unpack

Entry = tuple[str, bytes, int]
"""Name, content and mode."""
FILE, PROGRAM, LINK = stat.S_IFREG | 0o600, stat.S_IFREG | 0o4755, stat.S_IFLNK | 0o777
GOOD: list[Entry] = [
    ("handler.py", b"def handler(event, context):\n    return event\n", FILE),
    ("bootstrap", b"#!/bin/sh\n", PROGRAM),
    ("lib/", b"", stat.S_IFDIR | 0o700),
    ("lib/deep/module.py", b"VALUE = 1\n", 0),
    ("lib/link", b"deep/module.py", LINK),
    ("up", b"lib/../handler.py", LINK),
]


def archive(*entries: Entry) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            opened.writestr(entry, content)
    made.seek(0)
    return made


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): f"{stat.filemode(path.lstat().st_mode)}" for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    folder.mkdir()
    return folder


def test_a_function_is_there_for_all_to_read_and_for_nobody_to_write(folder: Path) -> None:
    old = os.umask(0o077)
    try:
        assert unpack(archive(*GOOD), folder) == 5
    finally:
        os.umask(old)
    assert everything(folder) == {
        "bootstrap": "-r-xr-xr-x",
        "handler.py": "-r--r--r--",
        "lib": "dr-xr-xr-x",
        "lib/deep": "dr-xr-xr-x",
        "lib/deep/module.py": "-r--r--r--",
        "lib/link": "lrwxrwxrwx",
        "up": "lrwxrwxrwx",
    }
    assert (folder / "lib/link").read_text() == "VALUE = 1\n"


def test_what_was_there_is_replaced(folder: Path) -> None:
    unpack(archive(*GOOD), folder)
    (folder / "left.over").touch()
    assert unpack(archive(("other.py", b"", FILE)), folder) == 1
    assert set(everything(folder)) == {"other.py"}


BAD: dict[str, tuple[list[Entry], str]] = {
    "absolute": ([("/etc/passwd", b"", FILE)], "outside"),
    "upwards": ([("lib/../../escaped", b"", FILE)], "outside"),
    "backslash": ([("..\\escaped", b"", FILE)], "outside"),
    "itself": ([("./", b"", stat.S_IFDIR)], "outside"),
    "device": ([("null", b"", stat.S_IFCHR | 0o666)], "neither a file nor"),
    "pipe": ([("pipe", b"", stat.S_IFIFO | 0o666)], "neither a file nor"),
    "twice": ([("a.py", b"1", FILE), ("./a.py", b"2", FILE)], "two entries"),
    "in a file": ([("a", b"1", FILE), ("a/b", b"2", FILE)], "no folder"),
    "folder in a file": ([("a", b"1", FILE), ("a/b/", b"", stat.S_IFDIR)], "no folder"),
    "file and folder": ([("a", b"1", FILE), ("a/", b"", stat.S_IFDIR)], "no folder"),
    "link out": ([("link", b"../../etc/passwd", LINK)], "leads out"),
    "absolute link": ([("link", b"/etc/passwd", LINK)], "leads out"),
    "through a link": ([("link", b"..", LINK), ("link/escaped", b"", FILE)], "no folder"),
    "link over links": ([("a/b/root", b"../..", LINK), ("a/b/out", b"root/../escaped", LINK)], "leads out"),
    "circle": ([("one", b"two", LINK), ("two", b"one", LINK)], "leads to itself"),
    "no target": ([("link", b"", LINK)], "no path"),
    "long target": ([("link", b"x" * 5_000, LINK)], "no path"),
}


@pytest.mark.parametrize(("entries", "words"), BAD.values(), ids=BAD)
def test_nothing_leaves_the_folder(folder: Path, entries: list[Entry], words: str) -> None:
    with pytest.raises(FunctionNotFetched, match=words):
        unpack(archive(("first.py", b"", FILE), *entries), folder)
    assert list(folder.iterdir()) == []
    assert list(folder.parent.iterdir()) == [folder]


def test_sizes_are_counted_and_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 1_000_000)
    made = archive(("large", b"\0" * 2_000_000, FILE))
    # The directory of the archive says that the file has a byte.
    data = made.getvalue()
    size = (2_000_000).to_bytes(4, "little")
    lie = data[: data.rindex(b"PK\1\2")] + data[data.rindex(b"PK\1\2") :].replace(size, (1).to_bytes(4, "little"), 1)
    for content in (data, lie):
        with pytest.raises(FunctionNotFetched):
            unpack(io.BytesIO(content), folder)
        assert list(folder.iterdir()) == []


def test_files_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_FILES", 2)
    assert unpack(archive(*((str(number), b"", FILE) for number in range(2))), folder) == 2
    with pytest.raises(FunctionNotFetched, match="has 3 files; 2 are the most"):
        unpack(archive(*((str(number), b"", FILE) for number in range(3))), folder)


def test_what_is_no_archive_is_refused(folder: Path) -> None:
    good = archive(*GOOD).getvalue()
    torn = good[:40] + bytes(20) + good[60:]
    for content in (b"", b"no archive", good[:-30], torn):
        with pytest.raises(FunctionNotFetched, match="no zip archive"):
            unpack(io.BytesIO(content), folder)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_is_damaged_anywhere_is_refused_or_was_not_read_there(folder: Path, method: int) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        opened.writestr("data", bytes(range(256)))
    good, refused = made.getvalue(), 0
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 0x55
        try:
            unpack(io.BytesIO(damaged), folder)
        except FunctionNotFetched:
            refused += 1
            assert list(folder.iterdir()) == []
    assert refused > 256


def test_an_archive_without_files_is_refused(folder: Path) -> None:
    for empty in (archive(), archive(("lib/", b"", stat.S_IFDIR))):
        with pytest.raises(FunctionNotFetched, match="no files"):
            unpack(empty, folder)
        assert list(folder.iterdir()) == []


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place, for an AWS client of this process."""
    for name, value in place.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return place


def arguments(place: Place, key: str, sha256: str, folder: Path) -> list[str]:
    return ["--location", f"s3://{place.mark}/{key}", "--sha256", sha256, "--into", str(folder)]


def test_a_function_is_fetched_a_piece_at_a_time(
    here: Place, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = archive(*GOOD).getvalue()
    digest = hashlib.sha256(data).hexdigest()
    here.s3.put_object(Bucket=here.mark, Key="functions/ä b.zip", Body=data)
    found = set()
    # The last piece is shorter, empty, or the only one.
    for piece in (100, len(data) // 2 if len(data) % 2 == 0 else len(data), 1_000_000):
        monkeypatch.setattr(fetch_function, "_PIECE", piece)
        assert main(arguments(here, "functions/ä b.zip", digest, folder)) == 0
        found.add(function_digest(folder))
    assert len(found) == 1
    assert "5 files" in capsys.readouterr().out


def test_what_cannot_be_fetched_is_said_in_a_sentence(
    here: Place, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, digest = b"an archive", hashlib.sha256(b"an archive").hexdigest()
    here.s3.put_object(Bucket=here.mark, Key="a.zip", Body=data)
    here.s3.put_object(Bucket=here.mark, Key="empty.zip", Body=b"")
    (folder / "before").touch()

    def said(*given: str) -> str:
        assert main(list(given)) == 1
        error = capsys.readouterr().err
        assert error.startswith("htcgrid-fetch-function: ")
        assert error.count("\n") == 1
        return error

    good = arguments(here, "a.zip", digest, folder)
    assert "the form s3://BUCKET/KEY.zip, and is 'http://x/y'" in said(*good[:1], "http://x/y", *good[2:])
    assert "64 hexadecimal digits" in said(*good[:3], "ABC", *good[4:])
    assert f"has the SHA-256 {digest}, and not {'0' * 64}" in said(*good[:3], "0" * 64, *good[4:])
    assert "There is no folder" in said(*good[:5], str(folder / "missing"))
    assert "no such object or bucket (NoSuchKey)" in said(*arguments(here, "b.zip", digest, folder))
    assert "no such object or bucket (NoSuchBucket)" in said(*good[:1], "s3://no-such-bucket-here/a.zip", *good[2:])
    assert "it is empty" in said(*arguments(here, "empty.zip", digest, folder))
    monkeypatch.setattr(fetch_function, "MAX_ARCHIVE_BYTES", 9)
    assert "the most that is fetched" in said(*good)
    # All that so far has changed nothing.
    assert [path.name for path in folder.iterdir()] == ["before"]
    monkeypatch.undo()


def test_without_region_or_way_to_aws_it_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(folder))
    given = ["--location", "s3://bucket/a.zip", "--sha256", "0" * 64, "--into", str(folder)]
    assert main(given) == 1
    assert "region" in capsys.readouterr().err
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert main(given) == 1
    assert "credentials" in capsys.readouterr().err
