"""Agent and workers in containers of their own, as a pod has them: two users with a group in common.

Where the tests do not run as root, both are the tests' own user.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.tests.embedded import free_ports, until
from agent.tests.harness import FUNCTION, AgentProcess, Place

import htcgrid_agent
from htcgrid_events import FailureKind

ENTRYPOINT = Path(htcgrid_agent.__file__).parent / "runtimes/worker_entrypoint.sh"
CLIENT = (sys.executable, "-P", "-m", "htcgrid_agent.runtimes.python_runtime", "handler.handler")
GROUP = 10_000
AGENT, WORKER = 10_001, 10_002
ROOT_RUNS = os.geteuid() == 0
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "not-for-workers", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://not-for-workers"}


def as_user(user: int) -> list[str]:
    """What a command begins with that runs as the user. It may read all files, since Python may lie where only root
    looks, but no other user's memory or environment, and writes none."""
    if not ROOT_RUNS:
        return []
    ids = [f"--reuid={user}", f"--regid={GROUP}", "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"]


class Pod:
    """The two containers. What the kubelet makes of an emptyDir with an fsGroup is the folder of the pipes."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.pipes = folder / "workers"
        self.pipes.mkdir()
        if ROOT_RUNS:
            shutil.chown(self.pipes, group=GROUP)
        self.pipes.chmod(0o2777)
        self.function = Path(shutil.copytree(FUNCTION, folder / "function"))
        self.port = free_ports(1)
        self.containers: list[subprocess.Popen[bytes]] = []

    def start_agent(self, **settings: object) -> AgentProcess:
        log = self.folder / f"agent-{len(self.place.agents)}.log"
        settings = {"worker_dir": self.pipes, "runtime_port": self.port, "workers": 1, "shared_dirs": [], **settings}
        environment = self.place.environment(**settings, HOME="/")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*as_user(AGENT), sys.executable, "-m", "htcgrid_agent"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                umask=0o022,
            )
        agent = AgentProcess(process, log)
        self.place.agents.append(agent)
        return agent

    def start_worker(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PLACE": self.place.mark,
            "TMPDIR": str(self.worker_tmp()),
            "LAMBDA_TASK_ROOT": str(self.function),
            "HTCGRID_WORKERS": "1",
            "HTCGRID_WORKER_DIR": str(self.pipes),
            "HTCGRID_RUNTIME_PORT": str(self.port),
            **CREDENTIALS,
        }
        command = [*as_user(WORKER), str(ENTRYPOINT), *CLIENT]
        container = subprocess.Popen(command, env=environment, cwd="/", start_new_session=True, umask=0o022)
        self.containers.append(container)

    def worker_tmp(self) -> Path:
        folder = self.folder / "tmp"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)
        return folder

    def run(self, code: str, **options: Any) -> Any:
        """What the code leaves in `result` when user code runs it: it is the handler's result, or the task's error."""
        (result,) = self.place.results(self.place.submit([{"do": "run", "code": code}], max_retries=0, **options))
        return result

    def close(self) -> None:
        self.place.close_agents()
        for container in self.containers:
            os.killpg(container.pid, signal.SIGKILL)
            container.wait(60)


@pytest.fixture
def pod(place: Place) -> Iterator[Pod]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        pod = Pod(place, folder)
        yield pod
        pod.close()


@pytest.mark.parametrize("worker_first", [True, False])
def test_a_worker_of_another_user_runs_tasks_and_is_stopped(pod: Pod, worker_first: bool) -> None:
    if worker_first:
        pod.start_worker()
        until((pod.pipes / "0.news").exists)
        pod.start_agent()
    else:
        agent = pod.start_agent()
        until(lambda: (pod.pipes / "0.news").exists() or agent.process.poll() is not None)
        pod.start_worker()
    events = [{"do": "echo", "value": 1}, {"do": "hang"}, {"do": "exit"}, {"do": "echo", "value": 2}]
    one, hung, exited, two = pod.place.results(pod.place.submit(events, max_retries=0, timeout=4))
    assert (one, two) == (1, 2)
    assert (hung.kind, exited.kind) == (FailureKind.TIMEOUT, FailureKind.CRASH)
    for pipe in pod.pipes.iterdir():
        found = pipe.lstat()
        assert stat.S_ISFIFO(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == (GROUP if ROOT_RUNS else found.st_gid)


SEARCH = """
import glob, os, pathlib
result = {"searched": 0, "found": []}
for file in glob.glob("/proc/[0-9]*/environ"):
    try:
        environment = pathlib.Path(file).read_bytes()
    except OSError:
        continue
    if os.environ["PLACE"].encode() in environment:
        result["searched"] += 1
        if b"not-for-workers" in environment:
            result["found"].append(file)
"""


def test_user_code_finds_no_credentials_in_the_processes_of_its_container(pod: Pod) -> None:
    pod.start_worker()
    pod.start_agent()
    result = pod.run(SEARCH)
    assert result["searched"] >= 2  # itself, and the entrypoint
    assert result["found"] == []


@pytest.mark.skipif(not ROOT_RUNS and os.environ.get("CI") != "true", reason="needs two users")
def test_user_code_reaches_neither_memory_nor_environment_of_the_agent(pod: Pod) -> None:
    pod.start_worker()
    agent = pod.start_agent()
    code = f"""
import os
result = []
for name in ("environ", "mem", "maps", "fd/0", "root/etc/passwd"):
    try:
        open("/proc/{agent.pid}/" + name, "rb").close()
        result.append(name)
    except PermissionError:
        pass
try:
    os.kill({agent.pid}, 0)
    result.append("kill")
except PermissionError:
    pass
"""
    assert pod.run(code) == []


def test_what_user_code_puts_in_the_place_of_a_pipe_is_not_followed(pod: Pod) -> None:
    """The agent would write to, or read and tell, any file of its own."""
    pod.start_worker()
    agent = pod.start_agent()
    secret = pod.folder / "secret"
    secret.write_text("")
    if ROOT_RUNS:
        shutil.chown(secret, AGENT, GROUP)
    pipe = str(pod.pipes / "0.orders")
    code = f"import os, time; os.unlink({pipe!r}); os.symlink({str(secret)!r}, {pipe!r}); time.sleep(1_000)"
    error = pod.run(code, timeout=2)
    assert error.kind is FailureKind.TIMEOUT
    until(lambda: agent.said("the entrypoint of the workers cannot be told to kill"))
    assert secret.read_text() == ""
    assert agent.process.poll() is None


def test_an_agent_that_finds_no_pipe_says_so(pod: Pod) -> None:
    (pod.pipes / "0.news").symlink_to(pod.folder / "secret")
    agent = pod.start_agent()
    assert agent.process.wait(120) == 2
    said = agent.log.read_text()
    assert f"{pod.pipes} must be a folder" in said
    assert "Traceback" not in said


FLOOD = """
import os
pipe = os.open({pipe!r}, os.O_WRONLY)
for _ in range(64):
    os.write(pipe, {data} * 65_536)
result = 1
"""


@pytest.mark.parametrize("data", [b"x", b"\n", b"started\n"])
def test_a_flood_of_news_neither_fills_memory_nor_the_log(pod: Pod, data: bytes) -> None:
    pod.start_worker()
    agent = pod.start_agent()
    assert pod.run(FLOOD.format(pipe=str(pod.pipes / "0.news"), data=data)) == 1
    assert pod.run("result = 2") == 2
    assert len([line for line in agent.log_lines if "never says" in line["message"]]) <= 1
    assert max(map(len, agent.log.read_text().splitlines())) < 2_000
