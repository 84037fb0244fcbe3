"""`htcgrid submit`: what reaches the grid, what is refused, and how it goes on."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid.cli.json_array import elements
from htcgrid.cli.task_stream import TasksReadAhead
from htcgrid_dataplane import decode_lines
from htcgrid_events import Priority


def tasks_of(stub: StubGrid, session_id: str) -> list[object]:
    """The events of a session, as they reached the grid."""
    found: list[object] = []
    for number, chunk in sorted(stub.sessions[session_id].chunks.items()):
        data = chunk.inputs if chunk.inputs is not None else stub.payloads[f"/in/{session_id}/{number}"]
        assert chunk.first_task == len(found)
        found += [json.loads(line) for line in decode_lines(data, chunk.size)]
    return found


def test_a_file_becomes_a_session_whose_id_is_printed(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"x": 1}\n\n[2, "zwei"]\n"drei"\n', encoding="utf-8")
    done = shell.succeed("submit", str(file))
    (session_id,) = stub.sessions
    assert done.out == f"{session_id}\n"
    assert tasks_of(stub, session_id) == [{"x": 1}, [2, "zwei"], "drei"]
    assert shell.kept == []


def test_standard_input_is_a_file_too(stub: StubGrid, shell: Shell) -> None:
    done = shell.succeed("submit", "-", stdin="1\n2\n")
    assert tasks_of(stub, done.out.strip()) == [1, 2]


def test_rows_of_csv_become_objects(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text('\ufeffname,strike,live,note\n"Doe, J",1.5,true,\n007,-2,null,"two\nlines"\n', encoding="utf-8")
    done = shell.succeed("submit", str(file))
    assert tasks_of(stub, done.out.strip()) == [
        {"name": "Doe, J", "strike": 1.5, "live": True, "note": ""},
        {"name": "007", "strike": -2, "live": None, "note": "two\nlines"},
    ]


def test_options_reach_the_grid(stub: StubGrid, shell: Shell) -> None:
    options = [
        "--chunk-size",
        "2",
        "--priority",
        "high",
        "--max-retries",
        "5",
        "--task-timeout",
        "2m",
        "--timeout",
        "3h",
    ]
    options += ["--max-failures", "7", "--max-failure-share", "0.5", "--non-retryable", "ValueError"]
    options += ["--retry-base", "2s", "--retry-factor", "3", "--retry-cap", "1m"]
    done = shell.succeed("submit", "-", *options, stdin="1\n2\n3\n")
    session = stub.sessions[done.out.strip()]
    assert [chunk.size for chunk in session.chunks.values()] == [2, 1]
    given = session.options
    assert (given.priority, given.max_retries, given.max_failures) == (Priority.HIGH, 5, 7)
    assert (given.task_timeout_seconds, given.session_timeout_seconds) == (120, 10_800)
    assert (given.max_failure_share, given.non_retryable) == (0.5, ("ValueError",))
    assert (given.retry_base_seconds, given.retry_factor, given.retry_cap_seconds) == (2, 3, 60)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.50", 1.5),
        ("2e3", 2000.0),
        ("-0.0", -0.0),
        ("12345678901234567890", 12345678901234567890),
        ("true", True),
        ("null", None),
        *((text, text) for text in ("5E1234", "1E-400", "-5E1234", "007", "1_000", " 7", "7 ", "-0", "+7", ".5", "5.")),
        *(
            (text, text)
            for text in (" true", "True", "NaN", "Infinity", "0x10", "\u0667", "\uff17", "1,5", "[1]", "{}")
        ),
        *(
            (text, text)
            for text in (
                "0.1000000000000000055511151231257827",
                "9" * 5000,
                "1E99999999999999999999",
                "0E-9999999999999999999",
            )
        ),
    ],
)
def test_a_cell_is_a_number_only_if_it_comes_back_the_same(
    stub: StubGrid, shell: Shell, tmp_path: Path, cell: str, value: object
) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text(f'x,y\n"{cell}",z\n', encoding="utf-8")
    done = shell.succeed("submit", str(file))
    assert json.dumps(tasks_of(stub, done.out.strip())) == json.dumps([{"x": value, "y": "z"}])


def test_a_long_cell_is_taken(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text(f"x\n{'ab' * 100_000}\n", encoding="utf-8")
    assert tasks_of(stub, shell.succeed("submit", str(file)).out.strip()) == [{"x": "ab" * 100_000}]


@pytest.mark.parametrize(
    "text", ['[{"x": 1}, [2], "drei", 4.5, null]', '\ufeff [\n{"x": 1},\n [2],"drei",4.5 ,null\n]\n']
)
def test_the_elements_of_an_array_are_tasks(stub: StubGrid, shell: Shell, tmp_path: Path, text: str) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(text, encoding="utf-8")
    done = shell.succeed("submit", str(file))
    assert tasks_of(stub, done.out.strip()) == [{"x": 1}, [2], "drei", 4.5, None]
    done = shell.succeed("submit", "-", "--format", "json", stdin=text)
    assert len(tasks_of(stub, done.out.strip())) == 5


@pytest.mark.parametrize("cut", range(1, 40))
def test_an_array_may_be_read_in_any_pieces(cut: int) -> None:
    text = '[12.5e+3, true, "a\\u00e9\\n]", -0.25, {"k": [1, 2.5]}, "ä€"]\n'
    values = [12.5e3, True, "aé\n]", -0.25, {"k": [1, 2.5]}, "ä€"]
    assert [value for _, value in elements(Pieces(text.encode(), cut), 1000)] == values


class Pieces(io.BytesIO):
    """Bytes that come a few at a time, as from a pipe."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self._size)


@pytest.mark.parametrize("written_as", ["jsonl", "json", "csv"])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"x": 1e999}', "task 2000"),
        ('"' + "x" * 7_000_000 + '"', "bytes as JSON"),
        ("[" * 600 + "]" * 600, "500 deep"),
    ],
)
def test_a_file_is_checked_to_its_end_by_the_rules_of_sending(
    stub: StubGrid,
    shell: Shell,
    tmp_path: Path,
    written_as: str,
    bad: str,
    said: str,
) -> None:
    lines = ['{"x": 1}'] * 2000 + [bad]
    if written_as == "csv":
        if not bad.startswith('"'):
            return  # such cells are texts
        lines = ["x", *["1"] * 1999, bad]
    text = "[" + ",\n".join(lines) + "]" if written_as == "json" else "\n".join(lines)
    file = tmp_path / f"tasks.{written_as}"
    file.write_text(text, encoding="utf-8")
    for arguments in ([str(file)], ["-", "--format", written_as]):
        done = shell.run("submit", *arguments, stdin=text)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert re.search(rf"line 2001 of \S+( input)?:.*{said}", done.err), done.err
        assert not [each for each in stub.sessions.values() if not each.cancelled]
        assert stub.sessions == {} or arguments[0] == "-"
    assert shell.kept == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"1\n{'x': 1}\n", r"line 2 of .*a\.jsonl is not JSON: .* at column 2"),
        ("a.jsonl", b'{"x": 1\r\n2\n', r"line 1 of .*a\.jsonl is not JSON: .* at column 8"),
        ("a.jsonl", b"1\nNaN\n", "line 2 of .* is not JSON: NaN is no number of JSON"),
        ("a.jsonl", b'1\n"\xff"\n', "line 2 of .* is not UTF-8"),
        ("a.csv", b"a,b\n1,2\n3\n", "line 3 of .* has 1 cell, and the header 2"),
        ("a.csv", b"a,a\n1,2\n", "line 1 of .* is not a CSV header"),
        ("a.csv", b'a,b\n"1,2\n', "line 2 of .* is not CSV"),
        ("a.jsonl", b"", r"a\.jsonl holds no task"),
        ("a.csv", b"a,b\n", r"a\.csv holds no task"),
        ("a.json", b"[]", r"a\.json holds no task"),
        ("a.json", b"", "line 1 of .*: it is no JSON array of tasks: it does not begin with"),
        ("a.json", b'{"x": 1}\n{"x": 2}\n', "for one task a line, give --format jsonl"),
        ("a.json", b"[1,\n2\n,{'x': 3}]" + b" " * 99, "line 3 of .*: Expecting property name"),
        ("a.json", b"[1,\n2", r"line 2 of .*: it ends without '\]'"),
        ("a.json", b"[1,\n", r"line 2 of .*: it ends without '\]'"),
        ("a.json", b"[1,\n2]\n3", r"line 3 of .*: something follows its '\]'"),
        ("a.json", b"[1\n2]", "line 2 of .*: a comma or .* is missing"),
        ("a.json", b"[1,\nNaN]", "line 2 of .*: NaN is no number of JSON"),
        ("a.json", b'["\xff"]', "line 1 of .*: it is not UTF-8"),
        ("a.json", b"[" * 5000, "line 1 of .*: it is nested too deeply"),
        ("a.jsonl", b"1\n" + b"[" * 5000, "line 2 of .* is not JSON: it is nested too deeply"),
        ("a.jsonl", b"1\n" + b"9" * 5000, "line 2 of .* is not JSON: Exceeds the limit"),
        ("a.xlsx", b"PK", r"a\.xlsx is not read: tasks are given as JSON Lines"),
    ],
)
def test_a_bad_file_changes_nothing(
    stub: StubGrid, shell: Shell, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = shell.run("submit", str(tmp_path / name))
    assert done.code == 2
    assert re.search(said, done.err)
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert not stub.sessions
    assert shell.kept == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-file"], "no-such-file cannot be read: No such file or directory"),
        (["."], ". cannot be read: Is a directory"),
        (["-", "--task-timeout", "soon"], "'soon' is not a length of time"),
        (["-", "--max-retries", "99"], "max_retries=99 is not legal"),
        (["-", "--chunk-size", "0"], "chunk_size=0 is not legal"),
        (["-", "--resume", "mine"], "'mine' is no session's id"),
    ],
)
def test_a_bad_option_changes_nothing(stub: StubGrid, shell: Shell, arguments: list[str], said: str) -> None:
    done = shell.run("submit", *arguments, stdin="1\n")
    assert done.code == 2
    assert said in done.err
    assert done.out == ""
    assert not stub.sessions
    assert shell.kept == []


def test_a_home_that_cannot_be_written_to_is_told_before_anything_is_sent(stub: StubGrid, shell: Shell) -> None:
    shell.home.write_text("not a folder", encoding="utf-8")
    done = shell.run("submit", "-", stdin="1\n")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "cannot be written: " in done.err
    assert "set HTCGRID_HOME" in done.err
    assert not stub.sessions


ARRAY = b'\xef\xbb\xbf\n [{"x": 1},\n  [2]\n ]\n'


@pytest.mark.parametrize("name", ["tasks", "tasks.txt", "tasks.jsonl", "-"])
@pytest.mark.parametrize(
    ("content", "options", "tasks"),
    [
        (ARRAY, [], [{"x": 1}, [2]]),
        (ARRAY, ["--format", "json"], [{"x": 1}, [2]]),
        (b"[\n[1]\n]", [], [[1]]),
        (b"[1, 2]\n\n[3]\n", [], [[1, 2], [3]]),
        (b"[1, 2]\n", ["--format", "jsonl"], [[1, 2]]),
        (b"[1, 2]\n", ["--format", "json"], [1, 2]),
        (b'\n{"x": [1]}', [], [{"x": [1]}]),
    ],
)
def test_an_array_is_known_by_its_text(
    stub: StubGrid, shell: Shell, tmp_path: Path, name: str, content: bytes, options: list[str], tasks: list[object]
) -> None:
    file = name if name == "-" else str(tmp_path / name)
    (tmp_path / "tasks").with_name(name).write_bytes(content)
    session_id = shell.succeed("submit", file, *options, stdin=content).out.strip()
    assert tasks_of(stub, session_id) == tasks


@pytest.mark.parametrize("name", ["tasks", "tasks.jsonl", "-"])
@pytest.mark.parametrize("content", [b"[1, 2]", b"\n[[1, 2]]\n\n", b"[]\n"])
def test_an_array_on_one_line_is_never_one_task_unnoticed(
    stub: StubGrid, shell: Shell, tmp_path: Path, name: str, content: bytes
) -> None:
    file = name if name == "-" else str(tmp_path / name)
    (tmp_path / name).write_bytes(content)
    done = shell.run("submit", file, stdin=content)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is one JSON array, and the only line: give --format json to have its elements as tasks, or" in done.err
    assert not [session for session in stub.sessions.values() if not session.cancelled]
    assert shell.kept == []


def test_lines_that_begin_like_an_array_are_told_how_to_be_read(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"[1, 2\n[3]\n")
    done = shell.run("submit", str(tmp_path / "tasks"))
    assert done.code == 2
    assert "line 2 of" in done.err
    assert "(for one task a line, give --format jsonl)" in done.err


def test_a_bad_line_of_a_stream_cancels_what_was_sent(stub: StubGrid, shell: Shell) -> None:
    lines = "1\n" * 5000 + "oops\n"
    done = shell.run("submit", "-", "--chunk-size", "1", stdin=lines)
    assert done.code == 2
    assert "line 5001 of standard input is not JSON" in done.err
    (session_id,) = stub.sessions
    assert f"what was already sent of session {session_id}, if anything, has been cancelled" in done.err
    assert [session.cancelled for session in stub.sessions.values()] == [True]
    assert shell.kept == []


def test_following_prints_results_and_fails_with_the_session(shell: Shell, stub: StubGrid) -> None:
    stub.handler = lambda event: event
    done = shell.succeed("submit", "-", "--follow", stdin="1\n2\n")
    assert sorted(done.values(), key=lambda line: line["index"]) == [
        {"index": 0, "result": 1},
        {"index": 1, "result": 2},
    ]
    assert re.search(r"^session [0-9a-f]{32}$", done.err, re.MULTILINE)
    assert "2 of 2 tasks" in done.err


def test_a_submission_to_a_grid_that_breaks_off_goes_on(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f"{number}\n" for number in range(2000)), encoding="utf-8")
    # The last request of the submission, the one that closes the session, is refused until the time limit.
    stub.fail("POST /api/sessions/.*/chunks", *[Answer(503, headers={"retry-after": "60"})] * 40)
    broken = shell.run("submit", str(file), "--chunk-size", "5", "--priority", "low")
    assert broken.code == 1
    (session_id,) = stub.sessions
    assert f"to go on: htcgrid submit {file} --resume {session_id}" in broken.err
    assert broken.err.count("\n") == 1
    assert len(shell.kept) == 1
    stub.faults.clear()
    done = shell.succeed("submit", str(file), "--resume", session_id[:8].upper())
    assert done.out == f"{session_id}\n"
    assert tasks_of(stub, session_id) == list(range(2000))
    assert stub.sessions[session_id].options.priority == Priority.LOW
    assert shell.kept == []


def test_a_submission_goes_on_as_it_began_or_not_at_all(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("1\n2\n", encoding="utf-8")
    stub.fail("PUT /api/sessions", *[Answer(503, headers={"retry-after": "60"})] * 10)
    assert shell.run("submit", str(file)).code == 1
    (kept,) = shell.kept
    session_id = kept.stem
    again = ["submit", str(file), "--resume", session_id]
    stub.faults.clear()
    assert "leave them out" in shell.run(*again, "--priority", "high").err
    file.write_text("1\n2\n3\n", encoding="utf-8")
    assert "holds 3 tasks, and the submission began with 2" in shell.run(*again).err
    file.write_text("1\n3\n", encoding="utf-8")
    assert "is not as it was when the submission began" in shell.run(*again).err
    file.write_text("1\n2\n", encoding="utf-8")
    assert not stub.sessions
    shell.succeed(*again)
    assert tasks_of(stub, session_id) == [1, 2]


def test_what_was_never_begun_does_not_go_on(stub: StubGrid, shell: Shell) -> None:
    mistyped = shell.run("submit", "-", "--resume", "0" * 32, stdin="1\n")
    assert (mistyped.code, mistyped.out) == (1, "")
    assert f"you have no session '{'0' * 32}'" in mistyped.err
    assert not stub.sessions


def test_what_is_through_does_not_go_on(stub: StubGrid, shell: Shell) -> None:
    session_id = shell.succeed("submit", "-", "--chunk-size", "1", stdin="1\n2\n").out.strip()
    again = shell.run("submit", "-", "--resume", session_id, stdin="1\n2\n")
    assert (again.code, again.out) == (2, "")
    assert f"session {session_id} takes no more tasks" in again.err


def test_a_submission_that_was_begun_elsewhere_goes_on(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f"{number}\n" for number in range(2000)), encoding="utf-8")
    stub.fail("POST /api/sessions/.*/chunks", *[Answer(503, headers={"retry-after": "60"})] * 40)
    assert shell.run("submit", str(file), "--chunk-size", "5").code == 1
    stub.faults.clear()
    (kept,) = shell.kept
    kept.unlink()
    short = f"{kept.stem[:4]}-{kept.stem[4:8]}".upper()
    shell.succeed("submit", str(file), "--resume", short, "--chunk-size", "5")
    assert tasks_of(stub, kept.stem) == list(range(2000))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_submission_that_is_interrupted_goes_on_without_a_doubled_task(
    stub: StubGrid, shell: Shell, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f"{number}\n" for number in range(20_000)), encoding="utf-8")
    # One request in the middle is answered only after the signal, so that the submission cannot be through before.
    submitting = process(shell, "submit", str(file), "--chunk-size", "10")
    stub.fail("POST /api/sessions/.*/chunks", *[Answer(503, headers={"retry-after": "1"})] * 200)
    stub.wait_for(lambda: stub.count("POST /api/sessions/.*/chunks") > 0)
    submitting.send_signal(number)
    out, err = submitting.communicate(timeout=60)
    assert submitting.returncode == code, err
    session_id = out.strip()
    assert "interrupted: what was sent is kept; to go on: htcgrid submit" in err
    assert "Traceback" not in err
    assert not stub.sessions[session_id].cancelled
    assert stub.sessions[session_id].totals is None
    sent = dict(stub.sessions[session_id].chunks)
    assert 0 < len(sent) < 2000
    stub.faults.clear()
    shell.succeed("submit", str(file), "--resume", session_id)
    assert tasks_of(stub, session_id) == list(range(20_000))
    assert {number: stub.sessions[session_id].chunks[number] for number in sent} == sent


def test_pressing_ctrl_c_again_keeps_what_was_sent_too(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("htcgrid.grid.Grid.submit", pressed)
    file = tmp_path / "tasks.jsonl"
    file.write_text("1\n", encoding="utf-8")
    done = shell.run("submit", str(file))
    assert done.code == 130
    assert f"to go on: htcgrid submit {file} --resume {shell.kept[0].stem}" in done.err


def process(shell: Shell, *arguments: str, stdin: int | None = None) -> "subprocess.Popen[str]":
    """A command as a process of its own, which tells its largest size in MB as it ends."""
    code = (
        "import atexit, pathlib, sys; from htcgrid.cli import main;"
        # Not what getrusage says, which counts the process that forked this one.
        "size = lambda: pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0];"
        "atexit.register(lambda: print(int(size()) // 1024, file=sys.stderr)); main()"
    )
    environment = {**os.environ, "HTCGRID_PROFILE": str(shell.profile), "HTCGRID_HOME": str(shell.home)}
    command = [sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=stdin, stdout=pipe, stderr=pipe, text=True)


def test_a_long_file_takes_no_more_memory_than_a_short_one(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    stub.forgetful = True
    sizes = []
    for count in (2_500, 20_000):
        file = tmp_path / f"{count}.jsonl"
        file.write_text("".join(f'"{number:04000}"\n' for number in range(count)), encoding="utf-8")
        submitting = process(shell, "submit", str(file))
        out, err = submitting.communicate(timeout=100)
        assert submitting.returncode == 0, err
        assert stub.sessions[out.strip()].account().submitted == count
        sizes.append(int(err.split()[-1]))
    assert sizes[1] < sizes[0] + 20, sizes  # 10 and 80 MB of tasks


def test_following_is_left_by_ctrl_c_and_the_session_goes_on(stub: StubGrid, shell: Shell) -> None:
    session_id = shell.succeed("submit", "-", "--chunk-size", "1", stdin="1\n2\n").out.strip()
    stub.run(session_id, lambda event: event, [0])
    following = process(shell, "attach", session_id)
    assert following.stdout is not None
    assert json.loads(following.stdout.readline()) == {"index": 0, "result": 1}
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=60)
    assert following.returncode == 130
    assert f"the session goes on; to follow it again: htcgrid attach {session_id}" in err
    assert "Traceback" not in err
    assert not stub.sessions[session_id].cancelled


# --- streams ---


def test_results_of_a_stream_are_printed_while_it_is_still_read(stub: StubGrid, shell: Shell) -> None:
    stub.handler = lambda event: event
    submitting = process(shell, "submit", "-", "--follow", stdin=subprocess.PIPE)
    assert submitting.stdin is not None
    assert submitting.stdout is not None
    for number in range(4):
        submitting.stdin.write(f"{number * 10}\n")
        submitting.stdin.flush()
        assert json.loads(submitting.stdout.readline()) == {"index": number, "result": number * 10}
    _, err = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, err
    (session,) = stub.sessions.values()
    assert session.account().completed == 4


def test_a_task_waits_no_longer_than_a_moment_for_others() -> None:
    go_on, drawn = threading.Event(), []

    def source() -> Iterator[tuple[int, int]]:
        for number in range(1000):
            drawn.append(number)
            yield number, 1
        go_on.wait(60)
        yield 1000, 1

    groups = iter(TasksReadAhead(source()))
    first: list[object] = []
    while len(first) < 1000:
        first += next(groups)
    assert first == list(range(1000))
    go_on.set()
    assert next(groups) == [1000]
    assert next(groups, None) is None


def test_a_stream_is_not_read_further_ahead_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("htcgrid.cli.task_stream.MOST_BYTES", 100)
    ahead = TasksReadAhead((number, 30) for number in range(1000))
    sizes = [len(group) for group in ahead]
    assert sum(sizes) == 1000
    assert max(sizes) <= 4


def test_a_bad_line_of_a_stream_that_is_followed_cancels_what_was_sent(stub: StubGrid, shell: Shell) -> None:
    done = shell.run("submit", "-", "--follow", stdin="1\n" * 300 + "oops\n")
    assert done.code == 2
    assert "line 301 of standard input is not JSON" in done.err
    assert "has been cancelled" in done.err
    assert [session.cancelled for session in stub.sessions.values()] == [True]
    assert shell.kept == []


def test_an_empty_stream_is_told(stub: StubGrid, shell: Shell) -> None:
    done = shell.run("submit", "-", "--follow", stdin="")
    assert (done.code, "give at least one" in done.err) == (2, True)
    assert all(session.cancelled for session in stub.sessions.values())


def test_a_closed_standard_input_is_told(shell: Shell) -> None:
    for options in ("", "--follow"):
        command = f'"$0" -c "from htcgrid.cli import main; main()" submit - {options} <&-'
        environment = {**os.environ, "HTCGRID_PROFILE": str(shell.profile), "HTCGRID_HOME": str(shell.home)}
        done = subprocess.run(
            ["bash", "-c", command, sys.executable], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "standard input cannot be read: it is closed" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lost", [[], [3, 4], [0]])
def test_a_stream_that_was_followed_goes_on_with_the_same_chunks(stub: StubGrid, shell: Shell, lost: list[int]) -> None:
    submitting = process(shell, "submit", "-", "--follow", stdin=subprocess.PIPE)
    assert submitting.stdin is not None
    for first, end in ((0, 1), (1, 301), (301, 308)):  # groups of their own
        submitting.stdin.write("".join(f"{number}\n" for number in range(first, end)))
        submitting.stdin.flush()
        stub.wait_for(lambda end=end: [s.account().submitted for s in stub.sessions.values()] == [end])  # type: ignore[misc]
    submitting.send_signal(signal.SIGINT)
    _, err = submitting.communicate(timeout=60)
    assert submitting.returncode == 130, err
    (session_id,) = stub.sessions
    assert f"to go on: htcgrid submit - --resume {session_id}" in err
    session = stub.sessions[session_id]
    before = dict(session.chunks)
    for number in lost:
        del session.chunks[number]
    stub.handler = lambda event: event
    done = shell.succeed("submit", "-", "--resume", session_id, "--follow", stdin="".join(f"{n}\n" for n in range(500)))
    assert tasks_of(stub, session_id) == list(range(500))
    assert {number: session.chunks[number].first_task for number in before} == {
        number: chunk.first_task for number, chunk in before.items()
    }
    assert len(done.values()) == 500
    assert shell.kept == []
