"""What a worker has of its own, in namespaces and without them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from agent.tests.embedded import until
from agent.tests.harness import FUNCTION, Place

from htcgrid_agent.runtimes.function import Function, RuntimeKind
from htcgrid_agent.runtimes.sandbox import Isolation, Sandbox, SandboxKind, describe, isolate, remove_leftovers
from htcgrid_agent.runtimes.sandbox.command import FIRST_USER
from htcgrid_events import FailureKind, OutcomeCode

KINDS = [SandboxKind.NAMESPACES, SandboxKind.FOLDER]
each_kind = pytest.mark.parametrize("kind", KINDS)


def run(code: str, **more: object) -> dict[str, object]:
    return {"do": "run", "code": code, **more}


@each_kind
def test_what_a_task_writes_it_reads_back(place: Place, kind: SandboxKind) -> None:
    place.agent(sandbox=kind)
    code = (
        "import tempfile, time, pathlib\n"
        "file = pathlib.Path(tempfile.gettempdir(), 'a-fixed-name')\n"
        "file.write_text(str(event['value']))\n"
        "time.sleep(0.002)\n"
        "result = int(file.read_text())"
    )
    session = place.submit(*([run(code, value=chunk * 20 + task) for task in range(20)] for chunk in range(10)))
    assert place.results(session) == list(range(200))


OWN = """
import os, pathlib
folders = ["/tmp", "/var/tmp", "/dev/shm"]
result = [sorted(os.listdir(folder)) for folder in folders]
for folder in folders:
    pathlib.Path(folder, "left-here").touch()
"""


def test_folders_that_all_write_to_are_its_own(place: Place) -> None:
    place.agent(workers=1, sandbox="namespaces")
    session = place.submit([run(OWN), {"do": "exit"}, run(OWN)], max_retries=0)
    first, _, second = place.results(session)
    # Nothing is there of the host's but what is shown on purpose, and nothing of an earlier worker.
    assert "left-here" not in str(first)
    assert second == first
    assert not Path("/dev/shm/left-here").exists()
    assert first[1:] == [[], []]


def test_a_temporary_folder_goes_with_its_worker(place: Place) -> None:
    left = Path(tempfile.mkdtemp(prefix="htcgrid-worker-"))
    os.utime(left, (0, 0))
    place.agent(workers=1, sandbox="folder")
    code = "import tempfile, pathlib; result = tempfile.gettempdir(); pathlib.Path(result, 'left-here').touch()"
    first, _, second = place.results(place.submit([run(code), {"do": "exit"}, run(code)], max_retries=0))
    assert first != second
    assert not Path(first).exists()
    assert not left.exists()
    place.close_agents()
    assert not Path(second).exists()


@each_kind
def test_a_killed_agent_leaves_nothing(place: Place, tmp_path: Path, kind: SandboxKind) -> None:
    agent = place.agent(workers=1, sandbox=kind)
    note = tmp_path / "note"
    code = (
        "import subprocess, tempfile, time, pathlib\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "pathlib.Path(event['name']).write_text(tempfile.gettempdir())\n"
        "time.sleep(600)"
    )
    place.submit([run(code, name=str(note))])
    until(lambda: note.exists() and bool(note.read_text()))
    agent.signal(signal.SIGKILL)
    agent.process.wait(60)
    until(lambda: not place.processes())
    until(lambda: note.read_text() == "/tmp" or not Path(note.read_text()).exists())


def test_the_next_agent_removes_what_was_killed_with_its_watcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sandbox = Sandbox(namespaces=False, own_user=os.geteuid() == 0, disk_mb=16)
    places = [sandbox.place(number, Path("/"), ["sleep", "600"], os.getpid()) for number in range(2)]
    killed, running = (subprocess.Popen(place.command) for place in places)
    try:
        watchers = [psutil.Process(each.pid) for each in (killed, running)]
        until(lambda: [[child.name() for child in watcher.children()] for watcher in watchers] == [["sleep"]] * 2)
        killed.kill()
        killed.wait(60)
        closed, young, elsewhere = (tmp_path / f"htcgrid-worker-{name}" for name in ("closed", "young", "elsewhere"))
        closed.mkdir()
        if os.geteuid() == 0:
            os.chown(closed, 12_345, -1)
        else:
            closed.chmod(0)
        (tmp_path / "other").mkdir()
        elsewhere.symlink_to(tmp_path / "other")
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        young.mkdir()

        assert remove_leftovers(tmp_path) == 1
        assert {path.name for path in tmp_path.iterdir()} == {
            Path(places[1].temporary).name,
            *(path.name for path in (closed, young, elsewhere)),
            "other",
        }
    finally:
        running.terminate()
        running.wait(60)
    assert not Path(places[1].temporary).exists()


@each_kind
@pytest.mark.parametrize("end", ["timeout", "exit", "cancel"])
def test_what_a_task_starts_ends_with_its_worker(place: Place, tmp_path: Path, kind: SandboxKind, end: str) -> None:
    agent = place.agent(workers=1, sandbox=kind, lease_seconds=3)
    note = tmp_path / "note"
    # In a session of its own, through a parent that has ended, and without the environment by which it could be found.
    code = (
        "import subprocess, time, os, pathlib\n"
        "subprocess.run(['sh', '-c', 'setsid env -i sleep 654 >/dev/null 2>&1 &'])\n"
        "pathlib.Path(event['name']).touch()\n"
        "os._exit(5) if event['end'] == 'exit' else time.sleep(600)"
    )

    def survivors() -> list[psutil.Process]:
        return [process for process in agent.family if process.name() == "sleep"]

    session = place.submit([run(code, name=str(note), end=end)], max_retries=0, timeout=2 if end == "timeout" else 60)
    until(note.exists)
    others = [process for process in psutil.process_iter(["cmdline"]) if "654" in (process.info["cmdline"] or [])]
    if end == "cancel":
        place.store.cancel([place.row(session)], place.row(session).claimable_at)
    place.finished(session)
    until(lambda: not survivors())
    until(lambda: not [process for process in others if process.is_running()])


READ_PROC = """
import pathlib
result = []
for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
        if event["mark"].encode() in file.read_bytes():
            result.append(str(file))
    except OSError:
        pass
"""


@each_kind
def test_an_agent_keeps_its_credentials_to_itself(place: Place, tmp_path: Path, kind: SandboxKind) -> None:
    secrets = tmp_path / "credentials"
    secrets.write_text("[default]\naws_access_key_id = AKIA\n")
    place.agent(
        sandbox=kind,
        AWS_SHARED_CREDENTIALS_FILE=secrets,
        AWS_CONFIG_FILE=secrets,
        AWS_PROFILE="default",
        AWS_CONTAINER_CREDENTIALS_FULL_URI="http://169.254.170.23/v1/credentials",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=secrets,
        AWS_ROLE_ARN="arn:aws:iam::000000000000:role/agent",
    )
    session = place.submit(
        [
            {"do": "facts"},
            run(READ_PROC, mark=f"HTCGRID_CHUNKS_TABLE={place.mark}"),
            run("import pathlib; result = pathlib.Path(event['file']).read_text()", file=str(secrets)),
        ],
        max_retries=0,
    )
    facts, readable, text = place.results(session)
    environment = facts["environment"]
    assert not [name for name in environment if name.startswith(("AWS_", "HTCGRID_")) and name not in ALLOWED]
    assert environment["HOME"] != str(place.folder)
    assert readable == []
    if kind is SandboxKind.NAMESPACES:
        assert text == ""


ALLOWED = {
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
}


def test_what_is_hidden_stays_hidden(place: Place, tmp_path: Path) -> None:
    secrets = tmp_path / "credentials"
    secrets.write_text("[default]\naws_access_key_id = AKIA\n")
    place.agent(sandbox="namespaces", AWS_CONFIG_FILE=secrets)
    code = (
        "import subprocess, pathlib\n"
        "for way in (['umount', event['file']], ['umount', '-l', event['file']], ['umount', '/proc']):\n"
        "    subprocess.run(way, capture_output=True)\n"
        "    subprocess.run(['unshare', '-rm', *way], capture_output=True)\n"
        "result = [pathlib.Path(event['file']).read_text(), len(list(pathlib.Path('/proc').glob('[0-9]*')))]"
    )
    ((text, processes),) = place.results(place.submit([run(code, file=str(secrets))], max_retries=0))
    assert text == ""
    assert processes < 5


LOOK = """
import os, pathlib
result = {}
for path in map(pathlib.Path, event["paths"]):
    try:
        result[str(path)] = sorted(os.listdir(path)) if path.is_dir() else path.read_text()
    except FileNotFoundError as error:
        result[str(path)] = type(error).__name__
try:
    pathlib.Path(event["paths"][0], "new").touch()
    result["written"] = True
except OSError:
    result["written"] = False
"""


@pytest.mark.parametrize("below", ["shown", "own"])
def test_what_lies_deeper_decides_what_is_hidden(place: Place, tmp_path: Path, below: str) -> None:
    home = tmp_path / "home"
    for name in ("local/functions/digest", "local/tmp", "profiles", "shared"):
        (home / name).mkdir(parents=True)
    for name in ("local/root.aws", "local/tmp/code", "profiles/local.json", "shared/data", "key"):
        (home / name).write_text("secret")
    function = home / "local/functions/digest"
    shutil.copytree(FUNCTION, function, dirs_exist_ok=True)
    place.agent(
        sandbox="namespaces",
        function_dir=function,
        hidden_paths=[str(home), str(home / "local/tmp"), str(home / "shared/data"), str(home / "nowhere")],
        shared_dirs=[str(home / "shared"), *([str(tmp_path)] if below == "shown" else [])],
        PYTHONPATH=os.pathsep.join([str(home / "local/tmp"), *filter(None, sys.path)]),
    )
    names = ["", "local", "local/root.aws", "local/tmp", "profiles/local.json", "shared", "shared/data", "key"]
    paths = [str(home / name) for name in names]
    (found,) = place.results(place.submit([run(LOOK, paths=paths)], max_retries=0))
    # What is in the worker's own `/tmp` is not there at all, and so need not be made read only.
    assert not found.pop("written") or below == "own"
    assert dict(zip(names, found.values(), strict=True)) == {
        "": ["local", "shared"],
        "local": ["functions", "tmp"],
        "local/root.aws": "FileNotFoundError",
        "local/tmp": [],
        "profiles/local.json": "FileNotFoundError",
        "shared": ["data"],
        "shared/data": "",
        "key": "FileNotFoundError",
    }


WRITE = """
import tempfile, pathlib, time
with open(pathlib.Path(tempfile.gettempdir(), "large"), "wb") as file:
    for _ in range(32):
        file.write(bytes(1024 * 1024))
time.sleep(event["seconds"])
"""


@each_kind
def test_its_files_are_bounded(place: Place, kind: SandboxKind) -> None:
    place.agent(sandbox=kind, worker_tmp_mb=16)
    (error,) = place.results(place.submit([run(WRITE, seconds=30)], max_retries=0, timeout=60))
    if kind is SandboxKind.NAMESPACES:
        assert (error.kind, error.type) == (FailureKind.HANDLER, "OSError")
        assert "No space left" in error.message
    else:
        assert error.kind is FailureKind.CRASH
        assert "temporary folder" in error.trace[-1]


def test_the_function_cannot_be_changed_by_its_tasks(place: Place) -> None:
    place.agent(sandbox="namespaces")
    (error,) = place.results(place.submit([run("open('note', 'w')")], max_retries=0))
    assert (error.type, "Read-only" in error.message) == ("OSError", True)


@each_kind
def test_an_agent_that_is_process_1_leaves_no_zombies(place: Place, tmp_path: Path, kind: SandboxKind) -> None:
    log = (tmp_path / "log").open("wb")
    unshare = shutil.which("unshare")
    assert unshare
    rights = ["--map-root-user"] if os.geteuid() else []
    first = subprocess.Popen(
        [unshare, *rights, "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "htcgrid_agent"],
        env=place.environment(sandbox=kind, workers=1),
        stdout=log,
        stderr=log,
    )
    try:
        code = (
            "import subprocess\n"
            "subprocess.run(['sh', '-c', 'setsid sleep 0.01 >/dev/null 2>&1 &'])\n"
            "result = subprocess.run(['true']).returncode"
        )
        session = place.submit(*([run(code), {"do": "exit"}] for _ in range(5)), max_retries=0)
        assert {outcome.outcomes for outcome in place.finished(session)} == {"CF"}
        (agent,) = psutil.Process(first.pid).children()
        for _ in range(5):
            # Whoever watches over a sandbox is killed, and the agent inherits what is left of it.
            until(lambda: bool(agent.children()))
            watcher = agent.children()[0]
            watcher.kill()
            until(lambda watcher=watcher: not watcher.is_running())  # type: ignore[misc]
            assert place.results(place.submit([{"do": "echo", "value": 1}])) == [1]
        until(lambda: all(child.status() != psutil.STATUS_ZOMBIE for child in agent.children(recursive=True)))
    finally:
        first.kill()
        first.wait()
        log.close()


CHANGE = """
import htcgrid_agent, os, pathlib, sys
result = []
agent = pathlib.Path(htcgrid_agent.__file__).parent
for folder in (agent, sys.prefix, sys.base_prefix, os.environ["LAMBDA_RUNTIME_DIR"]):
    try:
        (pathlib.Path(folder) / "written-by-a-task").touch()
        os.remove(pathlib.Path(folder) / "written-by-a-task")
        result.append(str(folder))
    except OSError:
        pass
"""


def test_the_agents_own_code_cannot_be_changed_by_tasks(place: Place) -> None:
    place.agent(workers=1, sandbox="namespaces")
    assert place.results(place.submit([run(CHANGE)])) == [[]]


def test_a_shared_folder_in_the_agents_code_is_written_to_all_the_same(tmp_path: Path) -> None:
    shared = tmp_path / "code/shared"
    shared.mkdir(parents=True)
    sandbox = Sandbox(namespaces=True, own_user=False, disk_mb=16, code=[tmp_path / "code"], shown=[shared])
    script = 'touch "$1/shared/a" && ! touch "$1/b"'
    place = sandbox.place(0, Path("/usr"), ["sh", "-c", script, "sh", str(tmp_path / "code")], os.getpid())
    subprocess.run(place.command, check=True, stderr=subprocess.DEVNULL)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "code", "shared"]


@each_kind
def test_processes_are_bounded(kind: SandboxKind) -> None:
    root = os.geteuid() == 0
    if kind is SandboxKind.FOLDER and not root:
        # The kernel would count all processes of the user.
        return
    script = "for number in $(seq 40); do sleep 60 & done; echo all"
    for most, out in ((20, ""), (200, "all\n")):
        sandbox = Sandbox(kind is SandboxKind.NAMESPACES, own_user=root, disk_mb=16, processes=most)
        place = sandbox.place(500, Path("/usr"), ["sh", "-c", script], os.getpid())
        done = subprocess.run(place.command, check=False, capture_output=True, text=True)
        assert done.stdout == out
        assert bool(done.returncode) == (not out)


def test_a_user_of_its_own_is_taken_where_it_can_read_what_it_needs(tmp_path: Path) -> None:
    sandbox = Sandbox(namespaces=True, own_user=False, disk_mb=16)
    open_sandbox, isolation = isolate(SandboxKind.AUTO, sandbox, [Path("/usr/bin/env")])
    assert open_sandbox.own_user == isolation.own_user == (os.geteuid() == 0)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    closed_sandbox, isolation = isolate(SandboxKind.FOLDER, sandbox, [closed])
    assert not closed_sandbox.own_user
    assert os.geteuid() or str(closed) in isolation.lacks[-1]


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that none but its owner may enter, outside of those of which each worker has its own."""
    with tempfile.TemporaryDirectory(prefix=".htcgrid-test-", dir=Path.home()) as folder:
        yield Path(folder)


FORBIDDEN = """
import os, pathlib
result = {"user": os.getuid()}
for name in event["files"]:
    for way, mode in (("read", "r"), ("written", "a")):
        try:
            open(name, mode).close()
            result[way + " " + name] = True
        except OSError:
            pass
"""


def test_workers_of_root_have_users_of_their_own_although_what_they_need_lies_in_closed_folders(
    place: Place, closed: Path
) -> None:
    private, readable = closed / "private", closed / "readable"
    private.touch(mode=0o600)
    readable.touch(mode=0o644)
    function, shared = closed / "function", closed / "a/shared"
    shutil.copytree(FUNCTION, function)
    shared.mkdir(parents=True)
    (shared / "data").write_text("shared")
    # Found by a link in a closed folder, as those of version managers are.
    (closed / "project").symlink_to(sys.prefix)
    agent = place.agent_of(
        closed / "project/bin/python",
        umask=0o077,
        sandbox="namespaces",
        function_dir=function,
        shared_dirs=[str(place.folder), str(shared)],
    )
    files = [str(file) for file in (private, readable, Path("/etc/shadow"), Path("/etc/passwd"), shared / "data")]
    files += ["/proc/sys/kernel/core_pattern", sys.executable]
    (found,) = place.results(place.submit([run(FORBIDDEN, files=files)], max_retries=0))
    assert (found.pop("user") >= FIRST_USER) == (os.geteuid() == 0), agent.log_lines
    if os.geteuid() == 0:
        allowed = ["/etc/passwd", str(shared / "data"), "/proc/sys/kernel/core_pattern", sys.executable]
        assert sorted(found) == sorted(f"read {name}" for name in allowed)


def test_a_runtime_needs_its_programs_under_every_name_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, links, function = tmp_path / "versions/20", tmp_path / "bin", tmp_path / "function"
    client = function / "node_modules/.bin/aws-lambda-ric"
    for program in (installed / "bin/node", client):
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    links.mkdir()
    (links / "node").symlink_to("../current/bin/node")
    (tmp_path / "current").symlink_to("versions/20")
    monkeypatch.setenv("PATH", str(links))
    found = Function(function, "index.handler", "f", 128, "", {}, RuntimeKind.NODEJS)
    assert set(found.programs) == {client, links / "node", tmp_path / "current/bin/node"}
    assert {function, function / "node_modules", installed} <= set(found.folders)


def test_what_a_host_does_not_allow_is_said() -> None:
    assert describe()
    said = Isolation(namespaces=False, own_user=False, lacks=("no namespaces: unshare: not permitted",)).lines()
    assert said[-1] == "no namespaces: unshare: not permitted"
    assert "TMPDIR" in said[0]


def test_how_workers_are_isolated_is_said_once(place: Place) -> None:
    agent = place.agent(sandbox="namespaces")
    session = place.submit([{"do": "exit"}, {"do": "echo", "value": 1}], max_retries=0)
    assert place.finished(session)[0].outcomes == OutcomeCode.FAILED.value + OutcomeCode.COMPLETED.value
    assert len([line for line in agent.log_lines if "Each worker has its own /tmp" in line["message"]]) == 1
    assert json.dumps(agent.log_lines).count("Each worker has") == 1
