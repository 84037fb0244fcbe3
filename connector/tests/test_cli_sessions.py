"""Commands about sessions and their tasks."""

import json
import re
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import Failing, StubGrid
from connector.tests.stub_session import FINGERPRINT

from htcgrid import Grid
from htcgrid_events import new_id


def fails_on_threes(event: object) -> object:
    assert isinstance(event, int)
    if event % 3 == 0:
        raise Failing(f"no curve for {event}")
    return {"value": event}


def test_sessions_are_listed(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    first, second = grid.submit([1, 2]), grid.submit([3])
    stub.run(first.id, lambda event: event)
    lines = shell.succeed("list").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[second.id, "RUNNING"], [first.id, "COMPLETED"]]
    found = shell.succeed("list", "--state", "completed", "--json").values()
    assert [session["session_id"] for session in found] == [first.id]
    assert len(shell.succeed("list", "--limit", "1", "--json").values()) == 1


def test_no_colours_where_there_is_no_terminal(grid: Grid, shell: Shell) -> None:
    grid.submit([1])
    assert "\x1b" not in shell.succeed("list").out


def test_several_sessions_are_cancelled_and_unknown_ones_named(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    sessions = [grid.submit([1]) for _ in range(3)]
    unknown = new_id()
    done = shell.run("cancel", sessions[0].id, sessions[1].id, unknown)
    assert done.code == 1
    assert f"you have no session {unknown}" in done.err
    assert [stub.sessions[session.id].cancelled for session in sessions] == [True, True, False]
    again = shell.succeed("cancel", "--all", "--yes", "--json").values()
    assert sessions[2].id in again[0]["stopping"]


def test_nothing_is_cancelled_without_a_word(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1])
    assert shell.run("cancel").code == 2
    assert shell.run("cancel", "--all", session.id).code == 2
    assert shell.run("cancel", "--all", stdin="n\n").code == 1
    assert not stub.sessions[session.id].cancelled


def test_a_session_is_held_and_let_go(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1])
    assert "RUNNING, paused" in shell.succeed("pause", session.id).out
    assert stub.sessions[session.id].paused
    shell.succeed("resume", session.id)
    assert not stub.sessions[session.id].paused


def test_an_unknown_session_is_one_sentence(shell: Shell) -> None:
    for command in ("status", "pause", "resume", "results", "errors", "tasks", "attach"):
        done = shell.run(command, new_id())
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("htcgrid: you have no session")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        *("status {}", "attach {}", "results {}", "errors {}", "tasks {}", "task show {} 0", "dlq list {}"),
        *(f"dlq show {{}} {FINGERPRINT}", "dlq redrive {} --task 0", "dlq purge {} --task 0"),
        *("pause {}", "resume {}", "cancel {}"),
    ],
)
def test_a_session_is_found_by_the_beginning_of_its_id(stub: StubGrid, grid: Grid, shell: Shell, command: str) -> None:
    one, two = "abcd1" + "0" * 27, "abcd2" + "0" * 27
    for session_id in (one, two, "f" * 32):
        grid.submit([3], session_id=session_id)
    stub.page_size = 1
    if command not in ("pause {}", "resume {}", "cancel {}"):
        stub.run(one, fails_on_threes)
    failed = command in ("attach {}", "results {}")
    done = shell.run(*command.format("abcd1").split())
    assert done.code == failed
    if "purge" not in command:
        for shown in (one.upper(), f"abcd1000-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}", " ABCD-1"):
            again = shell.run(*(part.format(shown) for part in command.split()))
            assert (again.code, "no session" in again.err) == (failed, False), again
    several = shell.run(*command.format("abcd").split())
    assert (several.code, several.out, several.err.count("\n")) == (2, "", 1)
    assert f"several sessions begin with abcd, such as {two} and {one}: give more digits" in several.err
    short = shell.run(*command.format("abc").split())
    assert (short.code, short.out) == (2, "")
    assert short.err == "htcgrid: abc is too short for the beginning of a session's id: give 4 digits or more\n"
    none = shell.run(*command.format("0123").split())
    assert (none.code, none.out, none.err.count("\n")) == (1, "", 1)
    assert "you have no session '0123'" in none.err


def test_results_are_lines_in_the_order_of_the_tasks(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit(list(range(300)))
    stub.run(session.id, lambda event: [event])
    done = shell.succeed("results", session.id)
    assert done.values() == [{"index": number, "result": [number]} for number in range(300)]


def test_results_without_a_result_are_errors_and_exit_code_1(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 3], chunk_size=2)
    stub.run(session.id, fails_on_threes)
    done = shell.run("results", session.id, "--json")
    assert done.code == 1
    assert done.err == f"htcgrid: 1 task has no result: 1 failed (why: htcgrid errors {session.id})\n"
    good, bad = done.values()
    assert good == {"index": 0, "result": {"value": 1}}
    assert (bad["index"], bad["error"]["type"], bad["error"]["message"]) == (1, "ValueError", "no curve for 3")
    assert (bad["error"]["attempts"], bad["error"]["trace"]) == (3, ["line of task 1"])


def test_cancelled_tasks_are_told_from_failed_ones(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([3, *[1] * 28], chunk_size=1)
    stub.run(session.id, fails_on_threes, [0])
    session.cancel()
    done = shell.run("results", session.id, "-o", "-")
    assert (done.code, len(done.values())) == (1, 29)
    assert "29 tasks have no result: 1 failed (why: htcgrid errors" in done.err
    assert done.err.endswith(", 28 cancelled\n")


def test_what_has_finished_by_now_is_not_waited_for(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([10, 11, 12, 13], chunk_size=1)
    stub.run(session.id, lambda event: event, [1, 3])
    done = shell.succeed("results", session.id, "--now")
    assert done.values() == [{"index": 1, "result": 11}, {"index": 3, "result": 13}]


def test_results_are_written_as_csv(stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path) -> None:
    session = grid.submit([1, 3], chunk_size=2)
    stub.run(session.id, fails_on_threes)
    file = tmp_path / "results.csv"
    assert shell.run("results", session.id, "-o", str(file)).code == 1
    assert file.read_text(encoding="utf-8") == (
        "index,result,error_kind,error_type,error_message\n"
        '0,"{""value"": 1}",,,\n'
        "1,,handler,ValueError,no curve for 3\n"
    )


def test_results_are_written_as_an_array_that_can_be_submitted(
    stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path
) -> None:
    session = grid.submit([1, "zwei"], chunk_size=1)
    stub.run(session.id, lambda event: event)
    file = tmp_path / "results.json"
    shell.succeed("results", session.id, "-o", str(file))
    assert json.loads(file.read_bytes()) == [{"index": 0, "result": 1}, {"index": 1, "result": "zwei"}]
    again = shell.succeed("submit", str(file)).out.strip()
    assert stub.sessions[again].account().submitted == 2


@pytest.mark.parametrize("name", ["results.xlsx", "results.txt", "results.jsonl.gz"])
def test_a_name_of_another_format_is_refused(grid: Grid, shell: Shell, tmp_path: Path, name: str) -> None:
    session = grid.submit([1])
    done = shell.run("results", session.id, "-o", str(tmp_path / name))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "give a name that ends in .jsonl, .json, .csv, .parquet, or --format" in done.err
    assert not (tmp_path / name).exists()


def test_results_are_written_as_parquet(stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path) -> None:
    from pyarrow import parquet

    session = grid.submit([1, 3, 2], chunk_size=1)
    stub.run(session.id, fails_on_threes)
    file = tmp_path / "results.parquet"
    assert shell.run("results", session.id, "-o", str(file)).code == 1
    rows = parquet.read_table(file).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [row["result"] for row in rows] == ['{"value": 1}', None, '{"value": 2}']
    assert rows[1]["error_type"] == "ValueError"
    assert list(tmp_path.glob(".results*")) == []


def test_a_session_is_followed(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 3], chunk_size=1)
    stub.run(session.id, fails_on_threes)
    done = shell.run("attach", session.id)
    assert done.code == 1
    assert len(done.values()) == 2
    assert f"session {session.id} is FAILED: 1 failed, 0 cancelled" in done.err


def test_errors_are_grouped(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit(list(range(1, 31)), chunk_size=5)
    stub.run(session.id, fails_on_threes)
    (group,) = shell.succeed("errors", session.id, "--json").values()
    assert (group["fingerprint"], group["tasks"], group["type"]) == (FINGERPRINT, 10, "ValueError")
    assert group["examples"] == [2, 5, 8, 11, 14]
    assert "2, 5, 8, 11, 14 …" in shell.succeed("errors", session.id).out


def test_errors_are_shown_each_with_its_trace(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 2, 3, 4, 5, 6], chunk_size=2)
    stub.run(session.id, fails_on_threes)
    assert shell.succeed("errors", session.id, "--all").out == (
        "task 2, handler, 3 attempts on agent-1: ValueError: no curve for 3\n"
        "    line of task 2\n"
        "task 5, handler, 3 attempts on agent-1: ValueError: no curve for 6\n"
        "    line of task 5\n"
    )
    assert [error["index"] for error in shell.succeed("errors", session.id, "--all", "--json").values()] == [2, 5]


def test_failures_whose_letters_are_gone_are_told(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([3])
    stub.run(session.id, fails_on_threes)
    session.purge()
    assert f"1 failed task has no dead letter (any more); to see all: htcgrid errors {session.id} --all" in (
        shell.succeed("errors", session.id).err
    )


def test_no_failure_is_told(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1])
    assert "No task has failed." in shell.succeed("errors", session.id).err
    assert "No task has failed." in shell.succeed("errors", session.id, "--all").err


def test_tasks_are_listed_by_state(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 2, 3, 4], chunk_size=2)
    stub.run(session.id, fails_on_threes, [1])
    found = shell.succeed("tasks", session.id, "--json").values()
    assert [(task["index"], task["state"]) for task in found] == [
        (0, "QUEUED"),
        (1, "QUEUED"),
        (2, "FAILED"),
        (3, "COMPLETED"),
    ]
    failed = shell.succeed("tasks", session.id, "--state", "failed").out.splitlines()
    assert failed[1].split() == ["2", "FAILED", "1", "1", "-"]
    assert len(shell.succeed("tasks", session.id, "--limit", "3", "--json").values()) == 3


def test_a_task_is_shown(grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 2])
    shown = shell.succeed("task", "show", session.id, "1").out
    assert f"task         {session.id}_1" in shown
    assert shell.succeed("task", "show", session.id, "1", "--json").values()[0]["index"] == 1
    assert shell.run("task", "show", session.id, "9").code == 1


def test_agents_are_known_by_what_they_run(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 2, 3], chunk_size=1)
    stub.sessions[session.id].running |= {0, 2}
    (agent,) = shell.succeed("agents", "--json").values()
    assert agent == {"agent": "agent-1", "sessions": [session.id], "chunks": 2, "tasks": 2}
    assert "agent-1" in shell.succeed("agents").out


def test_agents_that_run_nothing_of_mine_are_not_known(grid: Grid, shell: Shell) -> None:
    grid.submit([1])
    assert "No agent runs a task of yours now." in shell.succeed("agents").err


# --- dead letters ---


def test_letters_are_listed_shown_redriven_and_purged(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 2, 3, 4, 5, 6], chunk_size=1)
    stub.run(session.id, fails_on_threes)
    assert FINGERPRINT in shell.succeed("dlq", "list", session.id).out
    (group,) = shell.succeed("dlq", "list", session.id, "--json").values()
    assert group["tasks"] == 2
    letters = shell.succeed("dlq", "show", session.id, FINGERPRINT, "--json").values()
    assert [letter["tasks"] for letter in letters] == [[2], [5]]
    assert "error  " in shell.succeed("dlq", "show", session.id, FINGERPRINT).out
    assert shell.run("dlq", "show", session.id, "f" * 16).code == 1
    assert shell.succeed("dlq", "redrive", session.id, "--task", "2").out == "1 task run again\n"
    assert sorted(stub.sessions[session.id].outcomes) == [0, 1, 3, 4, 5]
    assert shell.succeed("dlq", "purge", session.id, "--fingerprint", FINGERPRINT, "--json").values() == [{"tasks": 1}]


def test_a_redrive_that_finds_nothing_says_so(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([1, 3], chunk_size=1)
    stub.run(session.id, fails_on_threes)
    done = shell.succeed("dlq", "redrive", session.id, "--task", "0")
    assert done.out == "0 tasks run again\n"
    assert "none of them is a dead letter" in done.err
    assert shell.succeed("dlq", "redrive", session.id, "--task", "1").err == ""


def test_tasks_that_cannot_run_again_yet_are_told(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([3, 6], chunk_size=1)
    stub.run(session.id, fails_on_threes)
    stub.sessions[session.id].running.add(1)
    done = shell.succeed("dlq", "redrive", session.id, "--yes")
    assert done.out == "1 task run again\n"
    assert "1 of them waits for other tasks of the same chunk that still run" in done.err


def test_a_task_is_redriven_with_another_event(stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path) -> None:
    session = grid.submit([3])
    stub.run(session.id, fails_on_threes)
    file = tmp_path / "event.json"
    file.write_text("4\n", encoding="utf-8")
    shell.succeed("dlq", "redrive", session.id, "--task", "0", "--event", str(file))
    assert {task: json.loads(text) for task, text in stub.sessions[session.id].events.items()} == {0: 4}


@pytest.mark.parametrize(
    ("arguments", "content", "said"),
    [
        (["--event"], "4", "--event is for one task: name it with --task"),
        (["--task", "1", "--task", "2", "--event"], "4", "--event is for one task"),
        (["--task", "0", "--event"], "{4", "is not JSON"),
        (["--task", "0", "--event"], "[" * 5000, "is not JSON: it is nested too deeply"),
        (["--task", "0", "--event"], "NaN", "is not JSON: NaN is no number of JSON"),
        (["--task", "0", "--event"], "1e999", "task 0"),
    ],
)
def test_a_bad_event_redrives_nothing(
    stub: StubGrid, grid: Grid, shell: Shell, tmp_path: Path, arguments: list[str], content: str, said: str
) -> None:
    session = grid.submit([3])
    stub.run(session.id, fails_on_threes)
    file = tmp_path / "event.json"
    file.write_text(content, encoding="utf-8")
    done = shell.run("dlq", "redrive", session.id, *arguments, str(file))
    assert (done.code, said in done.err) == (2, True)
    assert stub.count("redrive") == 0


def test_everything_is_redriven_or_forgotten_only_when_asked_twice(stub: StubGrid, grid: Grid, shell: Shell) -> None:
    session = grid.submit([3, 6], chunk_size=1)
    stub.run(session.id, fails_on_threes)
    for command in ("redrive", "purge"):
        assert shell.run("dlq", command, session.id, stdin="n\n").code == 1
    assert stub.count("redrive|purge") == 0
    assert shell.succeed("dlq", "redrive", session.id, "--yes").out == "2 tasks run again\n"


# --- replay ---


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "replayed_handlers.py"
    file.write_text(
        "def good(event, context):\n"
        "    custom = context.client_context.custom\n"
        "    assert 0 < context.get_remaining_time_in_millis() <= 900_000\n"
        "    return [event, context.aws_request_id, custom['htcgrid_task_id']]\n"
        "def bad(event, context):\n"
        "    raise LookupError(event)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return file


@pytest.mark.usefixtures("handlers")
def test_a_task_is_replayed_on_this_machine(grid: Grid, shell: Shell) -> None:
    session = grid.submit([{"x": 1}, {"x": 2}], chunk_size=2)
    done = shell.succeed("task", "replay", session.id, "1", "--handler", "replayed_handlers.good")
    assert json.loads(done.out) == [{"x": 2}, f"{session.id}_1", f"{session.id}_1"]


@pytest.mark.usefixtures("handlers")
def test_a_large_event_is_fetched_from_the_data_plane(grid: Grid, shell: Shell) -> None:
    import random

    text = "".join(random.Random(1).choices("0123456789abcdef", k=40_000))
    session = grid.submit([text])
    done = shell.succeed("task", "replay", session.id, "0", "--handler", "replayed_handlers.good")
    assert json.loads(done.out)[0] == text


@pytest.mark.usefixtures("handlers")
def test_a_replay_that_fails_shows_the_handlers_traceback_alone(grid: Grid, shell: Shell) -> None:
    session = grid.submit(["oh"])
    done = shell.run("task", "replay", session.id, "0", "--handler", "replayed_handlers.bad")
    assert done.code == 1
    assert "LookupError: oh" in done.err
    assert "in bad" in done.err
    assert "task_replay.py" not in done.err


@pytest.mark.usefixtures("handlers")
def test_a_replay_runs_under_the_debugger(grid: Grid, shell: Shell) -> None:
    session = grid.submit([5])
    arguments = ["task", "replay", session.id, "0", "--handler", "replayed_handlers.good", "--debug"]
    done = shell.succeed(*arguments, stdin="p event * 2\ncontinue\n")
    assert "(Pdb) 10" in done.out


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("good", "'good' does not name a handler: give MODULE.FUNCTION"),
        ("nowhere_to_be_found.good", "the module 'nowhere_to_be_found' cannot be loaded: ModuleNotFoundError"),
        ("replayed_handlers.none", "the module 'replayed_handlers' has no function 'none'"),
    ],
)
def test_a_handler_that_is_not_there_is_one_sentence(grid: Grid, shell: Shell, name: str, said: str) -> None:
    session = grid.submit([5])
    done = shell.run("task", "replay", session.id, "0", "--handler", name)
    assert (done.code, said in done.err) == (2, True)


@pytest.mark.parametrize(
    ("digests", "shown"),
    [
        ((), ""),
        (("aa",), "version aa"),
        (("aa", "bb"), "2 versions, so results are of different code: aa, bb"),
    ],
)
def test_status_says_which_versions_of_the_function_ran(
    stub: StubGrid, shell: Shell, grid: Grid, digests: tuple[str, ...], shown: str
) -> None:
    session = grid.submit([1])
    stub.sessions[session.id].function_digests = digests
    out = shell.succeed("status", session.id).out
    assert re.findall(r"^function +(.*)$", out, re.MULTILINE) == ([shown] if shown else [])
