"""Runtimes other than Python's, and runtimes in a container of their own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from agent.tests.embedded import ROOT, free_ports, until
from agent.tests.harness import FUNCTION, Place

import htcgrid_agent
from htcgrid_agent.runtimes.function_digest import function_digest
from htcgrid_chunks.clock import system_clock
from htcgrid_events import FailureKind

TESTS = Path(__file__).parent
NODE_CLIENT = ROOT / ".tools/node/node_modules/.bin/aws-lambda-ric"
NATIVE_PART = ROOT / ".tools/node/node_modules/aws-lambda-ric/dist/rapid-client.node"
ENTRYPOINT = Path(htcgrid_agent.__file__).parent / "runtimes/worker_entrypoint.sh"

needs_node = pytest.mark.skipif(
    not (shutil.which("node") and NODE_CLIENT.exists() and NATIVE_PART.exists()),
    reason="needs aws-lambda-ric, which `make install` builds where it finds node, npm, cmake and a C++ compiler",
)
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="the custom runtime of the tests is made of curl")


@pytest.fixture
def node(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PATH", f"{NODE_CLIENT.parent}{os.pathsep}{os.environ['PATH']}")
    place.agent(function_dir=TESTS / "function_node")
    return place


@needs_node
def test_node_handlers_run_as_on_lambda(node: Place) -> None:
    session = node.submit([{"do": "echo", "value": {"a": [1, "ü"]}}, {"do": "facts"}], timeout=30)
    value, facts = node.results(session)
    assert value == {"a": [1, "ü"]}
    assert (facts["name"], facts["version"], facts["memory"]) == ("htcgrid-function", "$LATEST", "1769")
    assert facts["custom"]["htcgrid_task_id"] == f"{session.session_id}_1"
    assert 25_000 < facts["remaining"] <= 30_000


@needs_node
def test_node_handlers_that_fail(node: Place) -> None:
    session = node.submit(
        [{"do": "raise", "message": "no luck"}, {"do": "exit"}, {"do": "hang"}, {"do": "echo", "value": 1}],
        max_retries=0,
        timeout=4,
    )
    *errors, one = node.results(session)
    assert [(error.kind, error.type) for error in errors] == [
        (FailureKind.HANDLER, "RangeError"),
        (FailureKind.CRASH, "Runtime.ExitError"),
        (FailureKind.TIMEOUT, "Sandbox.Timedout"),
    ]
    assert one == 1


@needs_node
def test_node_handlers_may_stream_and_fail_in_the_middle(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{NODE_CLIENT.parent}{os.pathsep}{os.environ['PATH']}")
    place.agent(function_dir=TESTS / "function_node", handler="streaming.handler")
    session = place.submit([{"fail": False}, {"fail": True}], max_retries=0)
    value, error = place.results(session)
    assert value == {"a": [1, 2]}
    assert (error.kind, error.type, error.message) == (FailureKind.HANDLER, "RangeError", "the source ran dry")


@needs_curl
def test_a_shell_script_may_be_a_runtime(place: Place) -> None:
    place.agent(function_dir=TESTS / "function_shell", handler="none", workers=1)
    session = place.submit(
        [{"value": 1}, {"do": "raise"}, {"do": "exit"}, {"do": "hang"}, {"value": "x" * 100_000}],
        max_retries=0,
        timeout=4,
    )
    one, raised, exited, hung, large = place.results(session)
    assert (one, large) == ({"value": 1}, {"value": "x" * 100_000})
    assert (raised.kind, raised.type) == (FailureKind.HANDLER, "Shell.Error")
    assert (exited.kind, exited.message) == (FailureKind.CRASH, "The worker ended with exit code 3.")
    assert hung.kind is FailureKind.TIMEOUT


class Pod:
    """An agent, and workers in what would be another container."""

    def __init__(self, place: Place, folder: Path, ports: int) -> None:
        self.place = place
        self.folder = folder
        self.ports = ports
        self.containers: list[subprocess.Popen[bytes]] = []

    def start_agent(self, **settings: object) -> None:
        self.agent = self.place.agent(worker_dir=self.folder, runtime_port=self.ports, workers=2, **settings)

    def start_workers(self, command: list[str], function: Path = FUNCTION) -> None:
        # A container has a folder for temporary files that no other has.
        temporary = self.folder.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(temporary),
            "PLACE": self.place.mark,
            "HTCGRID_WORKERS": "2",
            "HTCGRID_WORKER_DIR": str(self.folder),
            "HTCGRID_RUNTIME_PORT": str(self.ports),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
            "AWS_REGION": "us-east-1",
        }
        self.containers.append(
            subprocess.Popen([str(ENTRYPOINT), *command], env=environment, cwd=function, start_new_session=True)
        )

    def kill_workers(self) -> None:
        """As when a container is killed: with all that runs in it."""
        container = self.containers.pop()
        os.killpg(container.pid, signal.SIGKILL)
        container.wait(60)
        until(lambda: not self.place.processes())


@pytest.fixture
def pod(place: Place, tmp_path: Path) -> Iterator[Pod]:
    folder = tmp_path / "pipes"
    folder.mkdir()
    pod = Pod(place, folder, free_ports(2))
    yield pod
    place.close_agents()
    for container in pod.containers:
        container.terminate()
        container.wait(60)


PYTHON = [str(ROOT / ".venv/bin/python"), "-m", "awslambdaric", "handler.handler"]


def test_workers_may_come_before_or_after_the_agent(pod: Pod) -> None:
    place = pod.place
    pod.start_workers(PYTHON)
    # The long poll of an agent that has ended may still take a message, which comes back when the lease is over.
    pod.start_agent(lease_seconds=3)
    session = place.submit([{"do": "echo", "value": number} for number in range(20)])
    assert place.results(session) == list(range(20))
    assert pod.agent.end() == 0
    pod.start_agent(lease_seconds=3)
    session = place.submit([{"do": "facts"}])
    (facts,) = place.results(session)
    assert not [name for name in facts["environment"] if name.startswith(("HTCGRID_W", "HTCGRID_R", "AWS_CONTAINER"))]
    assert facts["environment"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1769"


def test_workers_in_another_container_tell_which_version_of_the_function_they_run(pod: Pod, tmp_path: Path) -> None:
    place = pod.place
    version = tmp_path / "version"
    shutil.copytree(FUNCTION, version, ignore=shutil.ignore_patterns("__pycache__"))
    (version / "a name").symlink_to("handler.py")
    (version / "ein Stück").touch()
    (version / "start").write_text("#!/bin/sh")
    (version / "start").chmod(0o755)
    (version / "folder").mkdir()
    (version / "folder" / "module.py").write_text("VALUE = 1\n")
    pod.start_agent(lease_seconds=3)
    pod.start_workers(PYTHON, version)
    session = place.submit([{"do": "raise"}], max_retries=0)
    (error,) = place.results(session)
    assert error.function_digest == function_digest(version)
    assert place.row(session).function_digests == (function_digest(version),)
    pod.kill_workers()
    (version / "folder" / "module.py").write_text("VALUE = 2\n")
    pod.start_workers(PYTHON, version)
    session = place.submit([{"do": "raise"}], max_retries=0)
    (later,) = place.results(session)
    assert later.function_digest == function_digest(version) != error.function_digest


def test_workers_in_another_container_have_temporary_folders_of_their_own(pod: Pod, tmp_path: Path) -> None:
    place = pod.place
    pod.start_agent()
    pod.start_workers(PYTHON)
    note = tmp_path / "folder"
    code = (
        "import os, tempfile, pathlib\n"
        "pathlib.Path(tempfile.gettempdir(), 'left-here').touch()\n"
        f"pathlib.Path({str(note)!r}).write_text(tempfile.gettempdir())\n"
        "os._exit(3)"
    )
    place.finished(place.submit([{"do": "run", "code": code}], max_retries=0))
    folder = Path(note.read_text())
    assert folder.name.startswith("htcgrid-worker-")
    until(lambda: not (folder / "left-here").exists())


def test_without_workers_an_agent_takes_nothing(pod: Pod) -> None:
    place = pod.place
    session = place.submit([{"do": "echo", "value": 1}])
    pod.start_agent()
    until(lambda: pod.agent.said("the agent is up"))
    pod.start_workers(PYTHON)
    assert place.results(session) == [1]
    assert place.row(session).stages.claimed_at >= system_clock() - 60_000


FAILING = [
    ({"do": "hang"}, FailureKind.TIMEOUT, "longer than 4 s"),
    ({"do": "exit"}, FailureKind.CRASH, "exit code 3"),
    ({"do": "segfault"}, FailureKind.CRASH, "signal SIGSEGV"),
    ({"do": "raise"}, FailureKind.HANDLER, "no luck"),
]


def test_tasks_in_another_container_fail_alone(pod: Pod) -> None:
    place = pod.place
    pod.start_agent()
    pod.start_workers(PYTHON)
    session = place.submit([*(event for event, *_ in FAILING), {"do": "echo", "value": 1}], max_retries=0, timeout=4)
    *errors, one = place.results(session)
    assert one == 1
    for error, (_, kind, words) in zip(errors, FAILING, strict=True):
        assert error.kind == kind
        assert words in error.message


def test_a_task_that_times_out_is_stopped_with_its_children(pod: Pod, tmp_path: Path) -> None:
    place = pod.place
    pod.start_agent()
    pod.start_workers(PYTHON)
    child = tmp_path / "child"
    session = place.submit([{"do": "child", "then": "hang", "child": str(child)}], max_retries=0, timeout=3)
    (error,) = place.results(session)
    assert error.kind is FailureKind.TIMEOUT
    until(lambda: not psutil.pid_exists(int(child.read_text())))


def test_a_cancelled_task_is_stopped(pod: Pod, tmp_path: Path) -> None:
    place = pod.place
    pod.start_agent(lease_seconds=3)
    pod.start_workers(PYTHON)
    note = tmp_path / "note"
    session = place.submit([{"do": "hang", "note": str(note)}])
    until(note.exists)
    worker = psutil.Process(int(note.read_text()))
    assert place.store.cancel([place.row(session)], system_clock()) == [True]
    until(lambda: not worker.is_running())
    assert place.finished(session)[0].outcomes == "X"


def test_a_handler_that_cannot_be_loaded_there_fails_its_tasks(pod: Pod) -> None:
    place = pod.place
    pod.start_agent()
    pod.start_workers([*PYTHON[:-1], "handler.missing"])
    session = place.submit([{"do": "echo", "value": 1}], max_retries=0)
    (error,) = place.results(session)
    assert (error.kind, error.type) == (FailureKind.INIT, "Runtime.HandlerNotFound")


def test_a_container_that_is_lost_fails_only_what_ran_in_it(pod: Pod, tmp_path: Path) -> None:
    place = pod.place
    pod.start_agent()
    pod.start_workers(PYTHON)
    note = tmp_path / "note"
    session = place.submit([{"do": "hang", "note": str(note)}], max_retries=0)
    until(note.exists)
    pod.kill_workers()
    (error,) = place.results(session)
    assert (error.kind, error.message) == (FailureKind.CRASH, "The worker ended with no word of why.")
    pod.start_workers(PYTHON)
    again = place.submit([{"do": "echo", "value": 1}])
    assert place.results(again) == [1]


def test_a_pod_that_ends_finishes_its_tasks(pod: Pod, tmp_path: Path) -> None:
    place = pod.place
    pod.start_agent()
    pod.start_workers(PYTHON)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": 1}])
    until(note.exists)
    # Kubernetes tells all containers of a pod at the same time.
    (container,) = pod.containers
    container.terminate()
    pod.agent.signal(signal.SIGTERM)
    until(lambda: pod.agent.said("the agent stops"))
    gate.touch()
    assert pod.agent.process.wait(60) == 0
    assert container.wait(60) == 0
    assert place.results(session) == [1]
