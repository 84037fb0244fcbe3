"""`htcgrid data`, and the replay of tasks that refer to shared data."""

import io
import json
import sys
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid
from htcgrid.cli.output import upload_progress


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "curves.bin"
    file.write_bytes(b"curves")
    return file


def test_put_prints_the_reference_that_an_event_may_hold(stub: StubGrid, shell: Shell, file: Path) -> None:
    done = shell.succeed("data", "put", str(file))
    (reference,) = done.values()
    assert done.err == ""
    assert reference["$data"].items() >= {"bytes": 6, "name": "curves.bin", "folder": False}.items()
    assert stub.data.stored(reference["$data"]["sha256"]) == b"curves"
    shell.succeed("submit", "-", stdin=json.dumps({"curves": reference}))
    assert stub.data.named == [{"data": [reference["$data"]["sha256"]]}]
    (folder,) = shell.succeed("data", "put", str(file.parent), "--name", "market").values()
    assert folder["$data"].items() >= {"name": "market", "folder": True}.items()


def test_put_shows_progress_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with upload_progress() as progress:
        progress(5_000_000)
    assert "uploaded 5,000,000 bytes" in shown.getvalue()
    monkeypatch.setattr(sys, "stderr", None)
    with upload_progress() as progress:
        progress(1)


def test_put_of_what_is_not_there_is_one_sentence(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    done = shell.run("data", "put", str(tmp_path / "nowhere"))
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("nowhere cannot be read: No such file or directory\n")
    assert stub.data.records == {}


def test_a_wrong_reference_is_one_sentence(stub: StubGrid, shell: Shell) -> None:
    done = shell.run("submit", "-", stdin='{"curves": {"$data": {"sha256": "short"}}}')
    assert (done.code, stub.sessions) == (2, {})
    assert "$data.sha256" in done.err


def test_data_is_listed(shell: Shell, file: Path) -> None:
    done = shell.succeed("data", "list")
    assert (done.out, "no shared data" in done.err) == ("", True)
    assert shell.succeed("data", "list", "--json").out == ""
    (reference,) = shell.succeed("data", "put", str(file)).values()
    (record,) = shell.succeed("data", "list", "--json").values()
    assert (record["reference"], record["state"]) == (reference["$data"], "THERE")
    head, line = shell.succeed("data", "list").out.splitlines()
    assert head.split() == ["SHA256", "BYTES", "STATE", "EXPIRES", "NAME"]
    assert line.split()[:3] == [reference["$data"]["sha256"], "6", "THERE"]
    assert line.endswith("curves.bin")


def test_data_is_deleted(stub: StubGrid, shell: Shell, file: Path) -> None:
    (reference,) = shell.succeed("data", "put", str(file)).values()
    digest = reference["$data"]["sha256"]
    stub.data.used.add(digest)
    done = shell.run("data", "rm", digest)
    assert (done.code, done.out) == (1, "")
    assert "DataInUse" in done.err
    done = shell.succeed("data", "rm", "--force", digest, "0" * 64)
    assert done.out.splitlines() == [f"{digest}  deleted", f"{'0' * 64}  not there"]


@pytest.mark.parametrize("digest", ["0" * 63, "A" * 64, "../sessions"])
def test_what_is_no_digest_is_refused(stub: StubGrid, shell: Shell, digest: str) -> None:
    done = shell.run("data", "rm", digest)
    assert (done.code, done.out) == (2, "")
    assert "is no digest" in done.err
    assert stub.count("DELETE") == 0


def test_a_replay_finds_a_file_and_a_folder(
    stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "market").mkdir()
    (tmp_path / "market" / "curve").write_text("yields")
    (tmp_path / "reading_handlers.py").write_text(
        "from pathlib import Path\n"
        "def reads(event, context):\n"
        "    return [Path(event['file']).read_text(), Path(event['folder'], 'curve').read_text(), event['folder']]\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    session = grid.submit([{"file": grid.put(b"text"), "folder": grid.put(tmp_path / "market")}])
    replay = ("task", "replay", session.id, "0", "--handler", "reading_handlers.reads")
    text, curve, folder = json.loads(shell.succeed(*replay).out)
    assert (text, curve) == ("text", "yields")
    assert folder.startswith(f"{tmp_path}/cache/htcgrid/data/")
    stub.data.records.clear()
    assert Path(folder).is_dir()
    assert json.loads(shell.succeed(*replay).out) == [text, curve, folder]
    for path in (tmp_path / "cache").rglob("data"):
        path.rename(path.with_name("moved"))
    done = shell.run(*replay)
    assert (done.code, "DataNotFound" in done.err) == (1, True)
