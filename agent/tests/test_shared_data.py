"""Shared data on its way from the store to tasks, with agents as real processes."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent.tests.embedded import free_ports, until
from agent.tests.harness import FUNCTION, TENANT, AgentProcess, Place
from agent.tests.proxy import Fate, Network, Request, network
from agent.tests.test_runtimes import NODE_CLIENT, needs_curl, needs_node

from htcgrid_dataplane import data_key
from htcgrid_events import FailureKind

READ = "result = open(event['data']).read()"
SAME = f"python{sys.version_info.major}.{sys.version_info.minor}"
ROOT_RUNS = os.geteuid() == 0


def reads(data: Any, **more: object) -> dict[str, object]:
    return {"do": "run", "code": READ, "data": data, **more}


@pytest.fixture
def net(place: Place) -> Iterator[Network]:
    """A network between agents and AWS, which counts what passes."""
    with network(place.embedded.url, place.embedded.elsewhere) as net:
        place.endpoint = net.url
        yield net
        place.close_agents()


@pytest.mark.parametrize("runtime", ["python", "python-lambda"], indirect=True)
def test_tasks_of_several_agents_and_workers_find_what_is_fetched_once(place: Place, net: Network) -> None:
    data = place.put_data(b"curves" * 100_000, "curves.txt")
    agents = [place.agent() for _ in range(2)]
    code = (
        "import os, zlib\n"
        "path = event['at']['data']\n"
        "result = [os.path.basename(path), zlib.crc32(open(path, 'rb').read())]"
    )
    events = [{"do": "run", "code": code, "number": number, "at": {"data": data}} for number in range(20)]
    results = place.results(place.submit(*[events[:5], *([event] for event in events[5:])]))
    assert results == [results[0]] * 20
    assert results[0][0] == "curves.txt"
    assert net.count("GetObject") == 1
    assert sum(agent.said("shared data was fetched") for agent in agents) == 1


@pytest.mark.parametrize(
    ("folder", "handler", "shape"),
    [
        pytest.param("function_node", "handler.handler", "value", marks=needs_node),
        pytest.param("function_shell", "none", "whole", marks=needs_curl),
    ],
)
def test_other_runtimes_are_given_the_same_path(
    place: Place, folder: str, handler: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{NODE_CLIENT.parent}{os.pathsep}{os.environ['PATH']}")
    data = place.put_data(b"curves", "curves.txt")
    place.agent(function_dir=FUNCTION.parent / folder, handler=handler, workers=1)
    [result] = place.results(place.submit([{"do": "echo", "value": data}]), within=120)
    path = Path(result if shape == "value" else result["value"])
    assert path.name == "curves.txt"
    assert path.read_bytes() == b"curves"


def test_an_event_may_hold_several_and_a_folder(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("layers/weights")
        info.size = 7
        archive.addfile(info, io.BytesIO(b"weights"))
    model = place.put_data(buffer.getvalue(), "model", folder=True)
    curves = [place.put_data(b"%d" % number, f"{number}.txt") for number in range(3)]
    place.agent()
    code = (
        "paths = [*event['curves'], event['in']['model'] + '/layers/weights']\n"
        "result = [open(path).read() for path in paths]"
    )
    session = place.submit([{"do": "run", "code": code, "curves": curves, "in": {"model": model}}])
    assert place.results(session) == [["0", "1", "2", "weights"]]


def test_what_cannot_be_used_fails_its_tasks_alone_and_for_good(place: Place) -> None:
    good = place.put_data(b"good")
    wrong, missing, foreign = place.put_data(b"wrong"), place.put_data(b"missing"), place.put_data(b"f", tenant="other")
    place.s3.put_object(Bucket=place.mark, Key=data_key(TENANT, wrong["$data"]["sha256"]), Body=b"WRONG")
    place.s3.delete_object(Bucket=place.mark, Key=data_key(TENANT, missing["$data"]["sha256"]))
    short = {"$data": {**place.put_data(b"longer than it says")["$data"], "bytes": 3}}
    large = {"$data": {**good["$data"], "sha256": "0" * 64, "bytes": 2 * 1024 * 1024}}
    agent = place.agent(data_mb=1)
    tasks = [good, wrong, missing, foreign, {"$data": {"sha256": 1}}, short, {"$data": good["$data"], "x": 1}]
    session = place.submit([reads(data) for data in tasks], [reads(large)], max_retries=3)
    results = place.results(session)
    assert results[0] == "good"
    assert [getattr(error, "type", error) for error in results[1:6]] == [
        "DataCorrupt",
        "DataMissing",
        "DataMissing",
        "BadReference",
        "DataCorrupt",
    ]
    assert all(error.kind is FailureKind.INPUT and error.attempts == 1 for error in results[1:6])
    # It is no reference: the handler was given the object, which is no path.
    assert (results[6].kind, results[6].type) == (FailureKind.HANDLER, "TypeError")
    assert results[7].type == "DataTooLarge"
    assert "HTCGRID_DATA_MB" in results[7].message
    assert place.row(session).attempt <= 4
    assert agent.end() == 0


def test_more_than_fits_at_once_fails_with_what_to_do(place: Place) -> None:
    place.agent(data_mb=1)
    data = [place.put_data(bytes([number]) * 400_000) for number in range(3)]
    small = [place.put_data(b"%d" % number) for number in range(101)]
    session = place.submit(
        [reads(each) for each in data], [{"do": "echo", "all": small}], *([reads(each)] for each in data)
    )
    results = place.results(session)
    assert all("smaller chunk_size" in error.message and error.type == "TooMuchData" for error in results[:4])
    assert all(isinstance(result, str) for result in results[4:])


def test_a_store_that_does_not_answer_hands_the_chunk_back_and_costs_no_try(place: Place, net: Network) -> None:
    data = place.put_data(b"curves")
    down = threading.Event()
    down.set()
    net.before = lambda request: Fate.FAIL if request.name == "GetObject" and down.is_set() else Fate.PASS
    agent = place.agent()
    session = place.submit([reads(data)], max_retries=0)
    until(lambda: agent.said("shared data cannot be had yet"))
    down.clear()
    assert place.results(session, within=120) == ["curves"]
    assert place.row(session).tries == {}


def test_other_chunks_run_while_data_is_fetched_and_leases_last(place: Place, net: Network) -> None:
    data = place.put_data(b"curves")
    fetching, go = threading.Event(), threading.Event()

    def before(request: Request) -> Fate:
        if request.name == "GetObject":
            fetching.set()
            go.wait(300)
        return Fate.PASS

    net.before = before
    place.agent(workers=1, lease_seconds=3)
    waiting = place.submit([reads(data)])
    assert fetching.wait(120)
    # The only worker is free, for as long as several leases last.
    for _ in range(3):
        extended = net.count("Extend")
        assert place.results(place.submit([{"do": "echo", "value": 1}])) == [1]
        until(partial(_extended_since, net, extended))
    go.set()
    assert place.results(waiting) == ["curves"]
    assert place.row(waiting).attempt == 1


def _extended_since(net: Network, count: int) -> bool:
    return net.count("Extend") > count


def test_an_agent_that_stops_hands_back_what_waits_for_data(place: Place, net: Network) -> None:
    data = place.put_data(b"curves" * 1000)
    fetching, go = threading.Event(), threading.Event()

    def before(request: Request) -> Fate:
        if request.name == "GetObject" and not go.is_set():
            fetching.set()
            go.wait(300)
        return Fate.PASS

    net.before = before
    agent = place.agent()
    session = place.submit([reads(data)])
    assert fetching.wait(120)
    agent.signal(signal.SIGTERM)
    until(lambda: place.row(session).owner == "" or place.row(session).state.value == "RETRY")
    go.set()
    assert agent.end() == 0
    place.agent()
    assert place.results(session) == ["curves" * 1000]


def test_an_agent_that_is_killed_while_it_fetches_is_followed_by_another_of_its_node(
    place: Place, net: Network
) -> None:
    data = place.put_data(b"curves" * 1000)
    fetching, go = threading.Event(), threading.Event()

    def before(request: Request) -> Fate:
        if request.name == "GetObject" and not fetching.is_set():
            fetching.set()
            go.wait(300)
        return Fate.PASS

    net.before = before
    killed = place.agent(lease_seconds=3)
    sessions = [place.submit([reads(data)])]
    assert fetching.wait(120)
    other = place.agent(lease_seconds=3)
    until(lambda: other.said("the agent is up"))
    sessions.append(place.submit(*[[reads(data)] for _ in range(8)]))
    killed.signal(signal.SIGKILL)
    killed.process.wait(60)
    for session in sessions:
        assert set(place.results(session, within=120)) == {"curves" * 1000}
    go.set()
    assert net.count("GetObject") == 2


def test_data_in_use_stays_while_other_data_comes_and_goes(place: Place, tmp_path: Path) -> None:
    kept = place.put_data(b"k" * 500_000, "kept")
    place.agent(workers=2, data_mb=1, health_port=(port := free_ports(1)))
    note, go = tmp_path / "note", tmp_path / "go"
    wait = (
        "import os, time\nopen(event['note'], 'w').close()\nwhile not os.path.exists(event['go']): time.sleep(0.01)\n"
    )
    holding = place.submit([{**reads(kept), "code": wait + READ, "note": str(note), "go": str(go)}], timeout=600)
    until(note.exists)
    for number in range(3):
        other = place.put_data(bytes([65 + number]) * 400_000)
        assert place.results(place.submit([reads(other)])) == [chr(65 + number) * 400_000]
    go.touch()
    assert place.results(holding) == ["k" * 500_000]
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'htcgrid_agent_data_total{result="miss"} 4.0' in metrics
    assert "htcgrid_agent_data_evictions_total 2.0" in metrics
    assert "htcgrid_agent_data_fetched_bytes_total 1.7e+06" in metrics
    assert "htcgrid_agent_data_bytes 900000.0" in metrics


def test_without_a_folder_that_workers_see_it_is_said(place: Place, tmp_path: Path) -> None:
    pipes = tmp_path / "pipes"
    pipes.mkdir()
    port = free_ports(1)
    environment = place.environment(worker_dir=pipes, runtime_port=port, workers=1)
    del environment["HTCGRID_DATA_DIR"]
    log = tmp_path / "agent.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "htcgrid_agent"], env=environment, stderr=output, cwd=tmp_path
        )
    place.agents.append(AgentProcess(process, log))
    data = place.put_data(b"curves")
    until(lambda: place.agents[0].said("the agent is up"))
    # Without a worker that asks for a task it takes no chunks.
    with socket.create_connection(("127.0.0.1", port)) as worker:
        worker.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: agent\r\n\r\n")
        [error] = place.results(place.submit([reads(data)]))
    assert (error.kind, error.type) == (FailureKind.INPUT, "NoDataFolder")
    assert "HTCGRID_DATA_DIR" in error.message


def test_what_the_partition_preloads_is_there_before_the_first_task(place: Place, net: Network) -> None:
    table = f"{place.mark}-partitions"
    place.dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("partition", "entry")],
        KeySchema=[{"AttributeName": "partition", "KeyType": "HASH"}, {"AttributeName": "entry", "KeyType": "RANGE"}],
    )
    data = [place.put_data(b"%d" % number, f"{number}.txt") for number in range(3)]
    expires = [int(time.time()) + 3600, int(time.time()) + 3600, 1]
    entries: dict[str, Any] = {
        f"{TENANT}/{each['$data']['sha256']}": {
            "M": {
                "bytes": {"N": "1"},
                "name": {"S": each["$data"]["name"]},
                "folder": {"BOOL": False},
                "expires_at": {"N": str(expiry)},
            }
        }
        for each, expiry in zip(data, expires, strict=True)
    }
    entries["nonsense"] = {"S": "of a later release"}
    key: dict[str, Any] = {"partition": {"S": "default"}, "entry": {"S": "preload"}}
    place.dynamodb.put_item(TableName=table, Item={**key, "preload": {"M": entries}})
    agent = place.agent(partitions_table=table)
    until(lambda: sum("shared data was fetched" in line["message"] for line in agent.log_lines) == 2)
    assert place.results(place.submit([reads(data[0]), reads(data[1])])) == ["0", "1"]
    assert net.count("GetObject") == 2
    assert agent.end() == 0


# --- what handlers cannot do ---

ATTACK = """
import os
mine = event["data"]
item, files = os.path.dirname(mine), os.path.dirname(os.path.dirname(mine))
root = os.path.dirname(files)
done = []
def attempt(what, act):
    try:
        found = act()
        if found is not False:
            done.append(f"{what}: {found}")
    except (OSError, ValueError):
        pass
attempt("list files", lambda: os.listdir(files))
attempt("scan files", lambda: list(os.scandir(files)))
attempt("read the secret", lambda: open(root + "/secret").read())
attempt("take the lock", lambda: open(root + "/lock", "r+"))
attempt("list items", lambda: os.listdir(root + "/items"))
attempt("list what comes", lambda: os.listdir(root + "/incoming"))
attempt("open files to all", lambda: os.chmod(files, 0o777))
attempt("open its item", lambda: os.chmod(item, 0o777))
attempt("open it", lambda: os.chmod(mine, 0o666))
attempt("write", lambda: open(mine, "a"))
attempt("write over", lambda: open(mine, "w"))
attempt("truncate", lambda: os.truncate(mine, 0))
attempt("rename", lambda: os.rename(mine, mine + ".new"))
attempt("replace", lambda: os.replace("/tmp", mine))
attempt("rename the item", lambda: os.rename(item, files + "/other"))
attempt("rename files", lambda: os.rename(files, root + "/other"))
attempt("unlink", lambda: os.unlink(mine))
attempt("remove the item", lambda: os.rmdir(item))
attempt("add", lambda: open(item + "/new", "w"))
attempt("add an item", lambda: os.mkdir(files + "/new"))
attempt("link", lambda: os.symlink("/etc", files + "/link"))
attempt("touch", lambda: os.utime(mine, (0, 0)))
owned = os.stat(mine).st_uid == os.getuid()
attempt("take", lambda: not owned and os.chown(mine, os.getuid(), os.getgid()))
libc = __import__("ctypes").CDLL(None, use_errno=True)
attempt("mount", lambda: libc.mount(b"none", files.encode(), b"", 0x1020, b"") == 0)
def agents():
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            for number in os.listdir(f"/proc/{process}/fd"):
                if "/items/" in os.readlink(f"/proc/{process}/fd/{number}"):
                    return process
        except OSError:
            pass
    return False
attempt("see what agents hold", agents)
result = [open(mine).read(), done]
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where other users find their way."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _is_open(path: str) -> bool:
    """Whether any user may read a file or a folder."""
    real = Path(path).resolve()
    return all(each.stat().st_mode & 0o005 for each in (real, *real.parents))


def _open_python() -> str | None:
    """A Python of this version that any user may run, with packages that any user may read."""
    packages = [path for path in sys.path if path and not path.startswith(sys.base_prefix)]
    if not all(_is_open(path) for path in packages if Path(path).exists()):
        return None
    candidates = (sys.executable, f"/usr/bin/{SAME}", f"/usr/local/bin/{SAME}")
    return next((path for path in candidates if Path(path).exists() and _is_open(path)), None)


OPEN_PYTHON = _open_python()
KINDS = ["namespaces", "root in folders", "user in namespaces"] if ROOT_RUNS and OPEN_PYTHON else ["namespaces"]
"""Elsewhere workers in folders are the agent's user, from whom nothing is kept apart."""


def _environment_for_all(folder: Path) -> Path:
    """A virtual environment of that Python, with the packages of this one; gives its program."""
    program, packages = folder / "bin/python", folder / "lib" / SAME / "site-packages"
    for needed in (program.parent, packages):
        needed.mkdir(parents=True)
    program.symlink_to(Path(str(OPEN_PYTHON)).resolve())
    (folder / "pyvenv.cfg").write_text(f"home = {Path(str(OPEN_PYTHON)).resolve().parent}\n")
    lines = [path for path in sys.path if path and not path.startswith(sys.base_prefix)]
    (packages / "packages.pth").write_text("\n".join(lines))
    return program


def _start_as_user(place: Place, folder: Path, python: Path, **settings: object) -> AgentProcess:
    """An agent of a user without rights."""
    data = folder / "data"
    data.mkdir()
    os.chown(data, 10001, 10000)
    environment = place.environment(HOME="/", PYTHONPATH="", data_dir=data, **settings)
    log = folder / "agent.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--reuid=10001", "--regid=10000", "--clear-groups", str(python), "-m", "htcgrid_agent"],
            env=environment,
            stderr=output,
            cwd="/",
        )
    agent = AgentProcess(process, log)
    place.agents.append(agent)
    return agent


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_handler_neither_finds_what_is_not_its_own_nor_changes_what_is(
    place: Place, open_folder: Path, kind: str
) -> None:
    function = shutil.copytree(FUNCTION, open_folder / "function")
    settings: dict[str, Any] = {"workers": 1, "function_dir": function, "shared_dirs": []}
    if kind == "user in namespaces":
        agent = _start_as_user(
            place, open_folder, _environment_for_all(open_folder / "python"), sandbox="namespaces", **settings
        )
    elif kind == "root in folders":
        python = _environment_for_all(open_folder / "python")
        agent = place.agent_of(python, sandbox="folder", PYTHONPATH="", data_dir=open_folder / "data", **settings)
    else:
        agent = place.agent(sandbox="namespaces", data_dir=open_folder / "data", **settings)
    theirs = place.put_data(b"theirs", tenant="other")
    mine = place.put_data(b"mine", "mine.txt")
    session = place.submit([reads(theirs)], [{"do": "run", "code": ATTACK, "data": mine}], [reads(mine)], max_retries=0)
    missing, attacked, after = place.results(session)
    assert missing.type == "DataMissing"
    assert attacked == ["mine", []]
    assert after == "mine"
    assert agent.said("Each worker runs as a user of its own") == (ROOT_RUNS and kind != "user in namespaces")
