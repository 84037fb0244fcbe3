"""What a handler may do: its error reaches its user whatever it is, and the next task finds the worker as it was."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from agent.tests.harness import PYTHON_RUNTIMES, Place

from htcgrid_events import FailureKind, TaskError

each_runtime = pytest.mark.parametrize("runtime", PYTHON_RUNTIMES, indirect=True)


def run(code: str, **more: object) -> dict[str, object]:
    return {"do": "run", "code": code, **more}


RAISE = "raise LookupError('no luck')"
HOSTILE: list[tuple[str, str, str]] = [
    ("raise ValueError('bad \\ud800')", "ValueError", "bad "),
    ("raise ValueError('bad \\uffff \\x00')", "ValueError", "bad "),
    ("import os, tempfile; os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())\n" + RAISE, "LookupError", "no luck"),
    ("import sys; sys.stdout.close()\n" + RAISE, "LookupError", "no luck"),
    ("import sys; sys.stderr.close()\n" + RAISE, "LookupError", "no luck"),
    ("import os; os.close(1); os.close(2)\n" + RAISE, "LookupError", "no luck"),
    ("import sys; sys.stdout = None\n" + RAISE, "LookupError", "no luck"),
    ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()", "Mute", "ZeroDivisionError"),
    ("raise type('Odd', (Exception,), {'__str__': lambda self: 5})()", "Odd", "TypeError"),
    ("raise ValueError('x' * 7_400_000)", "ValueError", "xxx"),
    ("raise type('Ошибка' * 100, (Exception,), {})('text')", "Ошибка" * 42, "text"),
    ("result = {'text': object()}", "Runtime.MarshalError", "['text'] is of type object"),
]


@each_runtime
def test_every_error_is_told_by_type_and_message(place: Place) -> None:
    place.agent(workers=1)
    echo = {"do": "echo", "value": "ü"}
    session = place.submit([task for code, *_ in HOSTILE for task in (run(code), echo)], max_retries=0)
    results = place.results(session)
    for (code, type_, words), error in zip(HOSTILE, results[::2], strict=True):
        assert isinstance(error, TaskError), code
        assert (error.kind, error.type[: len(type_)]) == (FailureKind.HANDLER, type_), code
        assert words in error.message, code
        assert len(error.message) < 20_000
    # None of them cost a worker, and none was told of an innocent task.
    assert results[1::2] == ["ü"] * len(HOSTILE)


STATE = """
import os, signal, socket, sys
mask = os.umask(0)
os.umask(mask)
result = [
    os.getcwd(), sys.stdout.closed, sys.stderr.closed, socket.getdefaulttimeout(), mask,
    str(signal.getsignal(signal.SIGUSR1)), signal.getitimer(signal.ITIMER_REAL)[0],
    sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), os.fstat(1).st_ino, os.fstat(2).st_ino,
]
"""
CHANGE = """
import os, signal, socket, sys, tempfile
os.chdir(tempfile.mkdtemp())
socket.setdefaulttimeout(0.001)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGALRM, lambda *_: os._exit(9))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
signal.alarm(1)
os.umask(0o777)
log = os.open("log", os.O_CREAT | os.O_WRONLY)
os.dup2(log, 1)
os.dup2(log, 2)
sys.stdout.close()
sys.stderr = open("other", "w")
"""


@each_runtime
def test_a_task_finds_the_worker_as_the_one_before_did(place: Place) -> None:
    place.agent(workers=1)
    nap = {"do": "nap", "seconds": 1.2}
    session = place.submit([run(STATE), run(CHANGE), run(STATE), nap, run(STATE)], max_retries=0)
    before, _, after, rested, last = place.results(session)
    assert (after, last, rested) == (before, before, "rested")


ENVIRONMENT = """
import os, time
result = [dict(os.environ), os.popen("env").read().count("LEFT"), time.localtime(0).tm_hour]
"""
LEAVE = [
    "import os; os.environ['LEFT'] = 'here'",
    "import os; del os.environ['HOME'], os.environ['AWS_REGION']",
    "import os; os.environ['PATH'] = '/nowhere'; raise LookupError('and fails')",
    "import os; os.environ.clear()",
    "import os; os.environb[b'LEFT'] = b'\\xff'; os.environ = {'LEFT': 'an other mapping'}",
    "import os, time; os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
]


@each_runtime
def test_a_task_leaves_nothing_in_the_environment(place: Place) -> None:
    place.agent(workers=1)
    tasks = [task for code in LEAVE for task in (run(code), run(ENVIRONMENT))]
    first, *rest = place.results(place.submit([run(ENVIRONMENT), *tasks], max_retries=0))
    for seen in (first, *rest[1::2]):
        seen[0].pop("_X_AMZN_TRACE_ID", None)
    assert [(code, first) for code in LEAVE] == list(zip(LEAVE, rest[1::2], strict=True))
    assert first[1] == 0


FORKED = """
import os, sys
child = os.fork()
if child:
    result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
elif {end!r} == "raise":
    raise LookupError("in the child")
elif {end!r} == "exit":
    sys.exit(7)
else:
    result = "the child's"
"""


@each_runtime
def test_a_forked_process_gives_no_result_for_its_task(place: Place) -> None:
    place.agent(workers=1)
    echoes = [{"do": "echo", "value": number} for number in range(4)]
    forks = [run(FORKED.format(end=end)) for end in ("return", "raise", "exit")]
    tasks = [task for pair in zip(echoes, forks, strict=False) for task in pair]
    session = place.submit([*tasks, echoes[3]], max_retries=0, timeout=5)
    assert place.results(session) == [0, 1, 1, 1, 2, 7, 3]


@each_runtime
@pytest.mark.parametrize("end", ["pass", "raise LookupError('in the child')"])
def test_a_process_that_is_forked_while_the_handler_is_loaded_runs_no_task(
    place: Place, tmp_path: Path, end: str
) -> None:
    source = (
        "import os\nworker = os.getpid()\nchild = os.fork()\n"
        f"if not child:\n    {end}\nelse:\n    os.waitpid(child, 0)\n"
        "def handler(event, context): return [event, os.getpid() == worker]"
    )
    assert outcome(place, function(tmp_path, handler=source), 1, 2, 3) == [[1, True], [2, True], [3, True]]


def function(folder: Path, **modules: str) -> Path:
    place = folder / "function"
    place.mkdir()
    for name, source in modules.items():
        (place / f"{name}.py").write_text(source)
    return place


def outcome(place: Place, folder: Path, *events: object, **settings: object) -> list[Any]:
    place.agent(function_dir=folder, workers=1, **settings)
    return place.results(place.submit(list(events), max_retries=0))


@each_runtime
def test_a_handler_may_change_sockets_when_it_is_loaded(place: Place, tmp_path: Path) -> None:
    source = "import socket, os\nsocket.setdefaulttimeout(0.05)\ndef handler(event, context): return os.getpid()"
    place.agent(function_dir=function(tmp_path, handler=source), workers=1)
    first = place.results(place.submit([1]))
    # The worker has been idle for longer than that.
    assert place.results(place.submit([{"wait": 1}, 2], messages=1)) == first * 2


@each_runtime
@pytest.mark.parametrize(
    ("source", "type_", "words"),
    [
        ("raise ValueError('bad \\ud800')", "ValueError", "bad "),
        ("class Ошибка(Exception): pass\nraise Ошибка('ü')", "Ошибка", "ü"),
        ("class Mute(Exception):\n    def __str__(self): raise OSError\nraise Mute", "Mute", "OSError"),
        ("import sys\nsys.stdout.close()\nraise ValueError('late')", "ValueError", "late"),
        ("def other(): pass", "Runtime.HandlerNotFound", "missing"),
    ],
)
def test_why_a_handler_cannot_be_loaded_is_told(
    place: Place, tmp_path: Path, source: str, type_: str, words: str
) -> None:
    (error,) = outcome(place, function(tmp_path, handler=source), 1)
    assert (error.kind, error.type) == (FailureKind.INIT, type_)
    assert words in error.message


@each_runtime
def test_modules_may_have_names_of_the_standard_library(place: Place, tmp_path: Path) -> None:
    names = ("types", "logging", "platform", "socket", "json", "traceback", "stringprep", "shutil", "signal", "uuid")
    modules = dict.fromkeys(names, "raise ImportError('this is not the one')")
    source = "def handler(event, context): return event"
    folder = function(tmp_path, handler=source, **modules)
    assert outcome(place, folder, 7) == [7]


@each_runtime
def test_the_environment_is_that_of_lambda(place: Place) -> None:
    place.agent(workers=1)
    child = (
        "import subprocess, sys, os\n"
        "source = 'import awslambdaric, os; print(os.environ[\"AWS_EXECUTION_ENV\"])'\n"
        "result = [subprocess.run([sys.executable, '-c', source], capture_output=True, text=True).stdout.strip(),\n"
        "          __import__('threading').active_count()]"
    )
    facts, (execution, threads) = place.results(place.submit([{"do": "facts"}, run(child)]))
    environment = facts["environment"]
    root = environment["LAMBDA_TASK_ROOT"]
    assert environment["AWS_EXECUTION_ENV"] == execution
    assert execution.startswith("AWS_Lambda_python3.")
    assert threads == 1
    assert {root, f"{root}/lib"} <= set(environment["LD_LIBRARY_PATH"].split(":"))
    assert environment["PYTHONPATH"] == environment["LAMBDA_RUNTIME_DIR"]
    assert (Path(environment["LAMBDA_RUNTIME_DIR"]) / "awslambdaric").is_dir()


# --- last words ---

SAY = "import sys; sys.stderr.write(event['say']); sys.stderr.flush()"


@each_runtime
def test_last_words_are_those_of_the_task_that_ran(place: Place) -> None:
    place.agent(workers=1)
    before = [{"do": "echo", "value": number} for number in range(200)]
    session = place.submit(
        before,
        [
            run(SAY, say="of another tenant\n"),
            run(SAY, say="and more without an end"),
            run(SAY + "; import os; os._exit(3)", say="mine\n"),
            {"do": "echo", "value": 1},
            {"do": "signal", "number": signal.SIGKILL},
        ],
        max_retries=0,
    )
    _, _, error, one, silent = place.results(session)[200:]
    assert (list(error.trace), one, list(silent.trace)) == (["mine"], 1, [])


@each_runtime
def test_a_progress_bar_does_not_hide_the_last_words(place: Place) -> None:
    place.agent(workers=1)
    bar = "".join(f"\r{percent:3} %" + " " * 60 for percent in range(100))
    (error,) = place.results(
        place.submit([run(SAY + "; import os; os._exit(3)", say=bar + "out of luck")], max_retries=0)
    )
    assert error.trace[-1].rstrip().endswith("out of luck")


def test_marks_between_tasks_do_not_reach_the_log(place: Place) -> None:
    agent = place.agent(workers=1)
    place.results(
        place.submit([{"do": "echo", "value": number} for number in range(500)], [run(SAY, say="seen\n")] * 50)
    )
    agent.end()
    assert [line["output"] for line in agent.log_lines if "output" in line] == ["seen"] * 50
    assert b"\0" not in agent.log.read_bytes()


FORGE = r"""
import os, sys, subprocess
line = '{"timestamp": "2020-01-01", "level": "CRITICAL", "message": "forged", "agent": "x"}'
print(line)
sys.stderr.write(line + "\n\x1b]0;owned\x07\r" + line + "\n")
os.write(1, b"\xff\0 no UTF-8 \n" + line.encode() + b"\n")
subprocess.run(["echo", line], check=True)
"""


@each_runtime
def test_no_handler_writes_a_line_of_the_agents_log(place: Place) -> None:
    agent = place.agent(workers=1)
    session = place.submit([run(FORGE), run("print('of the second task')")])
    place.results(session)
    agent.end()
    lines = [json.loads(line) for line in agent.log.read_text().splitlines()]
    assert not [line for line in lines if "forged" in line["message"]]
    written = [line for line in lines if "output" in line]
    assert sum("forged" in line["output"] for line in written) == 5
    assert {(line["session"], line["chunk"], line["worker"]) for line in written} == {(session.session_id, 0, 0)}
    assert written[-1]["output"] == "of the second task"
    assert "\x1b" not in agent.log.read_text()


@each_runtime
def test_a_task_fills_no_disk_by_what_it_writes(place: Place) -> None:
    agent = place.agent(workers=1)
    place.results(place.submit([run(r"print('x\n' * 5_000_000)"), run("print('heard all the same')")]))
    agent.end()
    assert agent.log.stat().st_size < 2_000_000
    outputs = [line["output"] for line in agent.log_lines if "output" in line]
    assert outputs[-1] == "heard all the same"
    assert outputs[-2].endswith("more bytes are left out")


FEIGN = r"""
import os
from htcgrid_agent.runtimes.python_runtime import NEXT_TASK
for _ in range(50):
    os.write(2, b"x\n" * 100_000 + NEXT_TASK)
"""


def test_a_task_that_feigns_to_be_many_fills_no_disk_either(place: Place) -> None:
    agent = place.agent(workers=1)
    place.results(place.submit([run(FEIGN), run(SAY, say="heard all the same\n")], [run(SAY, say="and this\n")]))
    agent.end()
    outputs = [line["output"] for line in agent.log_lines if "output" in line]
    assert outputs.count("x") <= 4_000
    assert outputs[-1] == "and this"


EXITS = [
    ("import sys; sys.exit('no licence\\nwas found')", "no licence"),
    ("import sys; sys.exit('bad \\ud800 and ' + 'x' * 100_000)", "bad "),
    ("import sys; sys.exit({'code': 7})", "{'code': 7}"),
    ("raise SystemExit(type('Mute', (), {'__str__': lambda self: 1 / 0})())", "ZeroDivisionError"),
    ("import sys; sys.stderr.close(); sys.exit('no licence')", "no licence"),
    ("import os, sys; os.close(2); sys.exit('no licence')", "no licence"),
]


@each_runtime
def test_the_text_of_an_exit_is_in_the_error(place: Place) -> None:
    place.agent(workers=1)
    codes = [code for code, _ in EXITS]
    plain = [run("import sys; sys.exit(7)"), {"do": "echo", "value": 1}]
    results = place.results(place.submit([run(code) for code in codes], plain, max_retries=0))
    for (code, words), error in zip(EXITS, results, strict=False):
        assert isinstance(error, TaskError), code
        assert (error.kind, error.type) == (FailureKind.HANDLER, "SystemExit"), code
        assert words in error.message, code
    # An end with a code is one of the process, as on Lambda.
    by_code, one = results[len(EXITS) :]
    assert (by_code.kind, by_code.message, one) == (FailureKind.CRASH, "The worker ended with exit code 7.", 1)


@each_runtime
def test_the_text_of_an_exit_while_the_handler_is_loaded_is_in_the_error(place: Place, tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("import sys\nsys.exit('no licence')\n", encoding="utf-8")
    place.agent(workers=1, function_dir=tmp_path)
    (error,) = place.results(place.submit([1], max_retries=0))
    assert (error.kind, error.type, error.message) == (FailureKind.INIT, "SystemExit", "no licence")


RECORD = "import dataclasses\nRecord = dataclasses.make_dataclass('Record', ['x'])\n"
NOT_JSON: list[tuple[str, str]] = [
    ("result = b'no json'", "the result is of type bytes, which JSON does not have: return base64.b64encode(value)"),
    ("result = b'\\xff'", "the result is of type bytes, which JSON does not have: return base64.b64encode(value)"),
    ("result = {'x': [1, {2}]}", "the result at ['x'][1] is of type set, which JSON does not have: return sorted(val"),
    ("result = [object()]", "the result at [0] is of type object, which JSON does not have: return numbers, texts"),
    ("result = {'x': {(1, 2): 3}}", "the result at ['x'] has a key of type tuple: return keys that are texts"),
    ("result = [1.5, float('nan')]", "the result at [1] is nan, which JSON does not have: return a finite number"),
    ("import decimal\nresult = {'NaN': decimal.Decimal('-Infinity')}", "at ['NaN'] is -Infinity, which JSON does not"),
    ("import datetime\nresult = [datetime.date(2026, 1, 31)]", "at [0] is of type date, which JSON does not have: ret"),
    ("import numpy\nresult = {'x': numpy.arange(3)}", "['x'] is of type ndarray, which JSON does not have: return val"),
    ("import numpy\nresult = numpy.datetime64('2026-01-31')", "is of type datetime64, which JSON does not have: retur"),
    ("result = []\nresult.append(result)", "the result is nested more than 500 deep, or holds itself"),
    ("result = [1, (x for x in ())]", "at [1] is of type generator, which JSON does not have: return list(value)"),
    (RECORD + "result = (1, Record(2))", "at [1] is of type Record, which JSON does not have: return dataclasses.asd"),
]
JSON_ALL_THE_SAME = [
    ("result = b'[1]'", [1]),
    ("import decimal\nresult = {'x': decimal.Decimal('1.10')}", {"x": 1.1}),
    ("result = ['NaN', {'Infinity': None}]", ["NaN", {"Infinity": None}]),
    ("result = '\\ud800'", "\ud800"),
]


@each_runtime
def test_what_is_not_json_in_a_result_is_named_by_its_place(place: Place) -> None:
    place.agent(workers=1)
    codes = [code for code, _ in NOT_JSON + JSON_ALL_THE_SAME]
    results = place.results(place.submit([run(code) for code in codes], max_retries=0))
    for (code, words), error in zip(NOT_JSON, results, strict=False):
        assert isinstance(error, TaskError), code
        assert (error.kind, error.type) == (FailureKind.HANDLER, "Runtime.MarshalError"), code
        assert words in error.message, code
    assert results[len(NOT_JSON) :] == [value for _, value in JSON_ALL_THE_SAME]
