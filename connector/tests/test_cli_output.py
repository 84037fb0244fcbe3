"""Where commands write to: files of all kinds, and outputs that cannot be written."""

import json
import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import Failing, StubGrid

from htcgrid import Grid

LINES = '{"index": 0, "result": 1}\n{"index": 1, "result": 2}\n'


@pytest.fixture
def session_id(stub: StubGrid, grid: Grid) -> str:
    """A session of two tasks that have completed."""
    session = grid.submit([1, 2], chunk_size=1)
    stub.run(session.id, lambda event: event)
    return session.id


def shell_line(line: str, shell: Shell, session_id: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """A line of bash in which `$HTCGRID` is the command and `$S` the session."""
    program = 'htcgrid() { "$PYTHON" -c "from htcgrid.cli import main; main()" "$@"; }; '
    environment = {
        **os.environ,
        "HTCGRID_PROFILE": str(shell.profile),
        "HTCGRID_HOME": str(shell.home),
        "PYTHON": sys.executable,
        "S": session_id,
        **more,
    }
    command = ["bash", "-c", program + line]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_regular_file_is_replaced_and_keeps_its_mode(shell: Shell, session_id: str, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text("old", encoding="utf-8")
    file.chmod(0o600)
    before = file.stat().st_ino
    shell.succeed("results", session_id, "-o", str(file))
    assert file.read_text(encoding="utf-8") == LINES
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_ino != before
    assert sorted(tmp_path.glob("*results*")) == [file]


def test_links_are_followed(shell: Shell, session_id: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link, second = tmp_path / "deep" / "target.jsonl", tmp_path / "link.jsonl", tmp_path / "second.jsonl"
    link.symlink_to("deep/target.jsonl")
    second.symlink_to(link)
    for _ in range(2):  # a link to nothing, then to a file
        shell.succeed("results", session_id, "-o", str(second))
        assert (link.is_symlink(), second.is_symlink(), target.is_symlink()) == (True, True, False)
        assert target.read_text(encoding="utf-8") == LINES


@pytest.mark.parametrize("name", ["pipe", "pipe.csv", "pipe.parquet"])
def test_a_pipe_is_written_into(shell: Shell, session_id: str, tmp_path: Path, name: str) -> None:
    pipe = tmp_path / name
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    shell.succeed("results", session_id, "-o", str(pipe))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(60)
    assert read[0][:5] in (LINES[:5].encode(), b"index", b"PAR1\x15")


def test_devices_and_what_a_shell_opened_are_written_into(shell: Shell, session_id: str, tmp_path: Path) -> None:
    before = Path("/dev/null").stat()
    link = tmp_path / "link"
    link.symlink_to("/dev/stdout")
    for line in (
        "htcgrid results $S -o >(cat) | cat",
        "htcgrid results $S -o /dev/stdout",
        "htcgrid results $S -o $LINK | cat",
        "echo first > $OUT; htcgrid results $S -o /dev/stdout >> $OUT; sed 1d $OUT",
        "htcgrid results $S -o /dev/fd/1 > $OUT; cat $OUT",
        "htcgrid results $S -o /dev/null && htcgrid results $S",
    ):
        done = shell_line(line, shell, session_id, OUT=str(tmp_path / "out"), LINK=str(link))
        assert (done.stdout, done.stderr, done.returncode) == (LINES, "", 0), line
        (tmp_path / "out").unlink(missing_ok=True)
    assert link.is_symlink()
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("htcgrid results $S -o none/out.jsonl", 2, "none/out.jsonl cannot be written: No such file or directory"),
        ("htcgrid results $S -o .", 2, ". cannot be written: Is a directory"),
        ("htcgrid results $S -o /dev/full", 1, "/dev/full cannot be written to the end: No space left on device"),
        ("htcgrid results $S > /dev/full", 1, "standard output cannot be written: No space left on device"),
        ("htcgrid results $S --format csv > /dev/full", 1, "standard output cannot be written: No space left"),
        ("htcgrid status $S > /dev/full", 1, "standard output cannot be written: No space left on device"),
        ("htcgrid version > /dev/full", 1, "standard output cannot be written: No space left on device"),
        ("htcgrid --help > /dev/full", 1, "the output cannot be written: No space left on device"),
        ("htcgrid results $S >&-", 1, "standard output is closed"),
        ("htcgrid list --json >&-", 1, "standard output is closed"),
        ("htcgrid results $S --format parquet", 2, "Parquet is no text: give a file with -o"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_sentence(
    shell: Shell, session_id: str, line: str, code: int, said: str
) -> None:
    done = shell_line(f"{line}; code=$?; wait; exit $code", shell, session_id)
    assert done.stderr.startswith(f"htcgrid: {said}"), done.stderr
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, "")


def test_a_reader_that_leaves_is_told_in_one_sentence(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit(["x" * 1000] * 300)
    stub.run(session.id, lambda event: event)
    for command in ("results $S", "results $S --format csv"):
        done = shell_line(f"set -o pipefail; htcgrid {command} | head -c 10 > /dev/null", shell, session.id)
        assert done.returncode == 1
        assert done.stderr == "htcgrid: standard output was closed before everything was written\n"


def test_a_closed_stderr_keeps_nothing_from_working(shell: Shell, session_id: str) -> None:
    for redirection in ("2>&-", "2>/dev/full"):
        for command in ("attach", "results"):
            done = shell_line(f"htcgrid {command} $S {redirection} | sort", shell, session_id)
            assert done.stdout == LINES
        assert shell_line(f"htcgrid status nothing {redirection}", shell, session_id).returncode == 1


def test_following_into_a_full_disk_ends_in_a_sentence(shell: Shell, session_id: str) -> None:
    done = shell_line("htcgrid attach $S > /dev/full", shell, session_id)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "htcgrid: standard output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_a_file_stays_when_writing_breaks_off(stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path) -> None:
    session = grid.submit(["x" * 1000] * 300)
    stub.run(session.id, lambda event: event)
    file = tmp_path / "results.jsonl"
    file.write_text("old", encoding="utf-8")
    line = "ulimit -f 8; trap '' XFSZ; htcgrid results $S -o $OUT"
    # Not measured by `make coverage`, whose own files would break off too.
    done = shell_line(line, shell, session.id, OUT=str(file), COVERAGE_PROCESS_START="")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be written to the end: File too large" in done.stderr
    assert file.read_text(encoding="utf-8") == "old"
    assert sorted(tmp_path.glob("*results*")) == [file]


def test_any_text_is_written_as_utf8_whatever_the_locale(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([0, 1], chunk_size=1)

    def handler(event: object) -> object:
        if event:
            raise Failing("漢字 \u202e ☃")
        return "\ud800 漢字"

    stub.run(session.id, handler)
    for command in (
        "results $S",
        "errors $S --all",
        "task show $S 1",
        "results $S --format csv",
    ):
        done = shell_line(f"htcgrid {command}", shell, session.id, PYTHONIOENCODING="cp1252", LC_ALL="C")
        assert "Traceback" not in done.stderr
        assert done.returncode == (1 if command.startswith("results") else 0)
        assert "漢字" in done.stdout
        assert "\\u202e" in done.stdout
        if command == "results $S":
            assert json.loads(done.stdout.splitlines()[0])["result"] == "\ud800 漢字"


def test_a_deeply_nested_result_spoils_no_other(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([0, 1], chunk_size=1)
    stub.run(session.id, lambda event: json.loads("[" * 900 + "]" * 900) if event else event)
    for form in ("jsonl", "csv"):
        done = shell_line(f"htcgrid results $S --format {form}", shell, session.id)
        assert "Traceback" not in done.stderr
        assert len(done.stdout.splitlines()) == (2 if form == "jsonl" else 3)


def test_on_a_terminal_results_and_progress_do_not_mix(shell: Shell, session_id: str) -> None:
    shown = on_terminal(shell, "attach", session_id)
    assert shown.replace("\r\n", "\n") == LINES or shown.replace("\r\n", "\n").splitlines()[::-1] == LINES.splitlines()


def test_csv_on_a_terminal_is_shown_escaped(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1])

    def handler(event: object) -> object:
        raise Failing("a\rb\x1b[2J")

    stub.run(session.id, handler)
    assert r"ValueError,a\rb\x1b[2J" in on_terminal(shell, "results", session.id, "--format", "csv")


def on_terminal(shell: Shell, *arguments: str) -> str:
    """What a command shows on a terminal, standard error included."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "HTCGRID_PROFILE": str(shell.profile), "HTCGRID_HOME": str(shell.home)}
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", *arguments]
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65_536):
            shown += data
    except OSError:  # its end, as Linux tells it
        pass
    os.close(ours)
    process.wait(60)
    return shown.decode()
