"""Every command on a session whose handler writes what a terminal or a spreadsheet would obey."""

import csv
import io
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from connector.tests.cli_runs import Run, Shell
from connector.tests.stub_grid import Failing, StubGrid
from connector.tests.stub_session import FINGERPRINT

import htcgrid.cli
from htcgrid import Grid
from htcgrid.cli import app

HOSTILE = (
    "=cmd|' /C calc'!A0\x1b]0;owned\x07\x1b[2J\x1b]8;;http://evil.example\x1b\\\x1b]52;c;b3duZWQ=\x07"
    "\x9b31m\x85\x00\x7f\r\nhtcgrid: all is well\t\u202egnp.exe\u2066\u2028\ufeff\U000e0041"
)
"""C0, C1, title, hyperlink, clipboard, NUL, line ends, direction, tags. And a formula."""


def handler(event: object) -> object:
    if event == 1:
        raise Failing(HOSTILE)
    return {HOSTILE: [HOSTILE, "\ud800"]}


@pytest.fixture
def session_id(stub: StubGrid, grid: Grid) -> str:
    session = grid.submit([0, 1, 2], chunk_size=1, task_timeout=60)
    stub.sessions[session.id].text = HOSTILE
    stub.sessions[session.id].running.add(2)
    stub.run(session.id, handler, [0, 1])
    return session.id


def is_plain(text: str) -> bool:
    """Whether a terminal only shows this text."""
    wrong = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return not {character for character in text if unicodedata.category(character) in wrong} - {"\n"}


def harmless(done: Run) -> bool:
    """Whether it may be shown, and no text of the handler has a line of its own."""
    lines = (done.out + done.err).splitlines()
    return is_plain(done.out) and is_plain(done.err) and "htcgrid: all is well" not in lines


SHOWN: dict[tuple[str, ...], list[list[str]]] = {
    ("status",): [[]],
    ("attach",): [[]],
    ("results",): [["--now"], ["--now", "--json"], ["--now", "--format", "json"]],
    ("errors",): [[], ["--json"], ["--all"], ["--all", "--json"]],
    ("tasks",): [[], ["--json"]],
    ("task", "show"): [["1"], ["1", "--json"]],
    ("dlq", "list"): [[], ["--json"]],
    ("dlq", "show"): [[FINGERPRINT], [FINGERPRINT, "--json"]],
    ("dlq", "redrive"): [["--yes"]],
    ("dlq", "purge"): [["--yes"]],
    ("pause",): [[]],
    ("resume",): [[]],
    ("cancel",): [[]],
}
"""What is given to a command after the session's id."""

WITHOUT_A_SESSION: dict[tuple[str, ...], list[list[str]]] = {
    ("agents",): [[], ["--json"]],
    ("data", "list"): [[], ["--json"]],
    ("list",): [[], ["--json"]],
    ("config", "show"): [[]],
    ("config", "list"): [[]],
    ("doctor",): [["--no-probe"]],
    ("version",): [[]],
}

ELSEWHERE = {("submit",), ("data", "put"), ("data", "rm"), ("task", "replay"), ("config", "set"), ("config", "use")}
"""Commands with tests of their own, below or because they show nothing of a handler."""


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield from commands(command, (*above, name)) if hasattr(command, "commands") else [(*above, name)]


def test_every_command_is_tried_here() -> None:
    assert set(commands(typer.main.get_command(app))) == {*SHOWN, *WITHOUT_A_SESSION, *ELSEWHERE}


def test_only_one_module_prints() -> None:
    folder = Path(htcgrid.cli.__file__).parent
    pattern = re.compile(r"typer\.(?:s?echo|secho)\(|(?<![\w.])print\(|sys\.(?:stdout|stderr)")
    found = {file.name for file in folder.glob("*.py") if pattern.search(file.read_text(encoding="utf-8"))}
    assert found == {"output.py"}


@pytest.mark.parametrize(
    ("command", "options"), [(command, options) for command, tried in SHOWN.items() for options in tried]
)
def test_a_command_shows_no_control_character(
    stub: StubGrid, shell: Shell, session_id: str, command: tuple[str, ...], options: list[str]
) -> None:
    if command == ("attach",):
        stub.run(session_id, handler)
    done = shell.run(*command, session_id, *options)
    assert harmless(done), done
    if command in {("results",), ("attach",), ("errors",), ("task", "show"), ("dlq", "show"), ("dlq", "list")}:
        assert "owned" in done.out


@pytest.mark.parametrize(
    ("command", "options"), [(command, options) for command, tried in WITHOUT_A_SESSION.items() for options in tried]
)
@pytest.mark.usefixtures("session_id")
def test_a_command_without_a_session_shows_none_either(
    shell: Shell, command: tuple[str, ...], options: list[str]
) -> None:
    assert harmless(shell.run(*command, *options))


def test_following_a_submission_shows_no_control_character(stub: StubGrid, shell: Shell) -> None:
    stub.handler = handler
    done = shell.run("submit", "-", "--follow", stdin="0\n1\n")
    assert harmless(done)
    assert "owned" in done.out
    assert [value["index"] for value in done.values()] in ([0, 1], [1, 0])


def test_a_replay_shows_no_control_character(
    grid: Grid, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_handlers.py").write_text(
        "def raises(event, context):\n    raise ValueError(event)\ndef gives(event, context):\n    return event\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    session = grid.submit([HOSTILE])
    for function in ("raises", "gives"):
        done = shell.run("task", "replay", session.id, "0", "--handler", f"hostile_handlers.{function}")
        assert is_plain(done.out + done.err)
        assert "owned" in done.out + done.err


def test_an_error_of_the_grid_shows_no_control_character(stub: StubGrid, shell: Shell, tmp_path: Path) -> None:
    profile = stub.profile(username=HOSTILE, password="wrong").save(tmp_path / "hostile.json")
    for command in (["list"], ["doctor"], ["config", "show"]):
        assert harmless(shell.run(*command, "--profile", str(profile)))


@pytest.mark.parametrize("name", ["results.csv", "results.parquet", "results.jsonl"])
def test_results_of_any_text_are_written(shell: Shell, session_id: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert shell.run("results", session_id, "--now", "-o", str(file)).code == 1
    assert file.stat().st_size > 100


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_is_no_formula_unless_asked_for(stub: StubGrid, grid: Grid, shell: Shell, start: str) -> None:
    session = grid.submit([1, -5], chunk_size=1)

    def fails(event: object) -> object:
        if event == 1:
            raise Failing(f'{start}1+1\r"x"\ny')
        return event

    stub.run(session.id, fails)
    rows = {}
    for options in ([], ["--raw-cells"]):
        done = shell.run("results", session.id, "--format", "csv", *options)
        rows[len(options)] = list(csv.DictReader(io.StringIO(done.out, newline=""), strict=True))
    assert rows[0][0]["error_message"] == f'\'{start}1+1\r"x"\ny'
    assert rows[1][0]["error_message"] == f'{start}1+1\r"x"\ny'
    assert [row["result"] for row in rows[0]] == ["", "-5"]


def test_logs_of_the_local_grid_show_no_control_character(tmp_path: Path) -> None:
    log = tmp_path / "local" / "logs" / "agent-0.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"{HOSTILE}\n", encoding="utf-8")
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", "local", "logs"]
    environment = {**os.environ, "HTCGRID_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=True)
    assert "owned" in done.stdout
    assert is_plain(done.stdout.replace("\t", "").replace("\r", ""))
    assert "\r" not in done.stdout
