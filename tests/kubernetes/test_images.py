"""The images run tasks, as the containers of a pod do: agent and worker of two users, on a root that is read only."""

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent.tests.embedded import Embedded, free_ports
from agent.tests.harness import FUNCTION, Place, place_at

from htcgrid.profile import Profile
from htcgrid_agent.runtimes.function_digest import function_digest
from htcgrid_events import FailureKind
from htcgrid_local.emulator import Emulator
from tests.kubernetes.containers import Container, Mount, Runner, runner
from tests.kubernetes.examples import example
from tests.kubernetes.images import image, lambda_image

GROUP = 10_000
SECRET = "not-for-workers"


@dataclass
class Pod:
    """Containers, and the folders that they share."""

    place: Place
    runner: Runner
    folder: Path
    port: int

    def shared(self, name: str) -> Path:
        """A folder as the kubelet makes an emptyDir of a pod with an fsGroup."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            shutil.chown(folder, group=GROUP)
            folder.chmod(0o2777)
        return folder

    def agent(self, *arguments: str, mounts: Sequence[Mount] = (), entrypoint: Sequence[str] = ()) -> Container:
        """The agent's image, with its settings."""
        settings = {
            key: value
            for key, value in self.place.environment(runtime_port=self.port, workers=1).items()
            if key.startswith(("AWS_", "HTCGRID_"))
        }
        for name in ("FUNCTION_DIR", "HANDLER", "SHARED_DIRS", "FUNCTION_ENVIRONMENT"):
            del settings[f"HTCGRID_{name}"]
        settings |= {"HTCGRID_WORKER_DIR": "/run/htcgrid/workers"}
        pipes = Mount(self.shared("workers"), "/run/htcgrid/workers", writable=True)
        return self.runner.start(
            image("agent").reference, *arguments, mounts=[pipes, *mounts], entrypoint=entrypoint, **settings
        )

    def worker(self, reference: str, function: Path, *arguments: str, **how: Any) -> Container:
        """A worker, which is given credentials by mistake."""
        mounts = [
            Mount(self.shared("workers"), "/run/htcgrid/workers", writable=True),
            Mount(function, "/var/task"),
            *how.pop("mounts", ()),
        ]
        environment = {
            "HTCGRID_WORKERS": "1",
            "HTCGRID_WORKER_DIR": "/run/htcgrid/workers",
            "HTCGRID_RUNTIME_PORT": str(self.port),
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        return self.runner.start(reference, *arguments, mounts=mounts, **environment, **how)


@pytest.fixture(scope="module")
def embedded(embedded_aws: Emulator, service_endpoints: dict[str, str]) -> Embedded:
    return Embedded(embedded_aws.endpoint_url, embedded_aws.key, service_endpoints)


@pytest.fixture
def pod(embedded: Embedded, tmp_path: Path) -> Iterator[Pod]:
    with place_at(embedded, tmp_path) as place, runner() as started:
        started.folder.chmod(0o755)
        yield Pod(place, started, started.folder, free_ports(1))


def run(place: Place, code: str) -> Any:
    (result,) = place.results(place.submit([{"do": "run", "code": code}], max_retries=0), within=300)
    return result


def test_the_agent_checks_its_settings_as_its_user_on_a_read_only_root(pod: Pod) -> None:
    container = pod.agent("--check")
    assert container.process.wait(300) == 0, container.said
    assert "The settings are right." in container.said
    assert {path.name for path in pod.shared("workers").iterdir()} == {"0.news", "0.orders"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in pod.shared("workers").iterdir()} == {(10_001, GROUP)}


LOOK = f"""
import glob, os, pathlib
def refuses(path):
    try:
        pathlib.Path(path).write_text("x")
    except OSError:
        return True
    return False
found = [file for file in glob.glob("/proc/[0-9]*/environ") if {SECRET.encode()!r} in pathlib.Path(file).read_bytes()]
commands = [pathlib.Path(file).read_bytes().decode() for file in glob.glob("/proc/[0-9]*/cmdline")]
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
result = {{
    "ids": [os.getuid(), os.getgid()],
    "secrets": found,
    "agents": [command for command in commands if "htcgrid-agent" in command],
    "read_only": all(map(refuses, ("/x", "/var/task/x", "/opt/htcgrid/x", "/etc/passwd"))),
    "capabilities": int(status["CapEff"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "name": __import__("getpass").getuser(),
}}
"""


def test_a_python_worker_runs_a_function_that_was_fetched(pod: Pod) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.write(FUNCTION / "handler.py", "handler.py")
    pod.place.s3.put_object(Bucket=pod.place.mark, Key="function.zip", Body=made.getvalue())
    function = pod.shared("function")
    fetched = pod.agent(
        *("--location", f"s3://{pod.place.mark}/function.zip", "--into", "/var/task"),
        *("--sha256", hashlib.sha256(made.getvalue()).hexdigest()),
        mounts=[Mount(function, "/var/task", writable=True)],
        entrypoint=["htcgrid-fetch-function"],
    )
    assert fetched.process.wait(300) == 0, fetched.said
    pod.worker(image("worker-python").reference, function, "handler.handler")
    agent = pod.agent()
    events = [{"do": "echo", "value": 1}, {"do": "hang"}, {"do": "exit"}, {"do": "raise"}]
    session = pod.place.submit(events, max_retries=0, timeout=5)
    one, *errors = pod.place.results(session, within=300)
    assert one == 1
    assert [error.kind for error in errors] == [FailureKind.TIMEOUT, FailureKind.CRASH, FailureKind.HANDLER]
    assert errors[-1].function_digest == function_digest(function)
    assert run(pod.place, LOOK) == {
        "ids": [10_002, GROUP],
        "secrets": [],
        "agents": [],
        "read_only": True,
        "capabilities": 0,
        "no_new_privileges": "1",
        "name": "htcgrid-worker",
    }
    assert agent.end() == 0, agent.said


@pytest.mark.parametrize(
    ("name", "language", "handler"),
    [
        ("worker-nodejs", "nodejs", ["handler.handler"]),
        ("worker-java", "java", ["example.Sum::handle"]),
        ("worker-provided", "go", []),
    ],
)
def test_a_worker_of_each_runtime_runs_its_example(pod: Pod, name: str, language: str, handler: list[str]) -> None:
    worker = pod.worker(image(name).reference, example(language), *handler)
    pod.agent()
    results = pod.place.results(pod.place.submit([{"numbers": [1, 2, 3]}, {"numbers": [-5]}]), within=300)
    assert [result["sum"] for result in results] == [6, -5], worker.said


def test_a_lambda_image_runs_with_the_entrypoint_of_the_agents_image(pod: Pod) -> None:
    entrypoint = pod.shared("entrypoint")
    copied = pod.agent(
        *("/opt/htcgrid/worker_entrypoint.sh", "/run/htcgrid/entrypoint/"),
        mounts=[Mount(entrypoint, "/run/htcgrid/entrypoint", writable=True)],
        entrypoint=["cp"],
    )
    assert copied.process.wait(300) == 0, copied.said
    pod.worker(
        lambda_image("nodejs"),
        example("nodejs"),
        *("/lambda-entrypoint.sh", "handler.handler"),
        entrypoint=["/bin/sh", "/run/htcgrid/entrypoint/worker_entrypoint.sh"],
        mounts=[Mount(entrypoint, "/run/htcgrid/entrypoint")],
        user="10002:10000",
    )
    pod.agent()
    (result,) = pod.place.results(pod.place.submit([{"numbers": [4]}]), within=300)
    assert result["sum"] == 4


def test_the_client_takes_a_profile_of_another_user(tmp_path: Path) -> None:
    profile = Profile(
        api_url="http://127.0.0.1:9",
        push_url="ws://127.0.0.1:9",
        region="us-east-1",
        user_pool_client_id="client",
        aws_endpoint_url="http://127.0.0.1:9",
        username="user",
        password="password",
    )
    with runner() as started:
        started.folder.chmod(0o755)
        secret = started.folder / "secret"
        secret.mkdir()
        file = profile.save(secret / "profile.json")
        os.chown(file, 0, GROUP)
        file.chmod(0o440)
        code, said = started.run(
            image("client").reference,
            *("/etc/htcgrid/profile.json", json.dumps({"numbers": [1]}), "--task-timeout", "10s"),
            entrypoint=["htcgrid-run-one-task"],
            mounts=[Mount(secret, "/etc/htcgrid")],
        )
    assert code == 1
    assert "127.0.0.1:9" in said
    assert "open to other users" not in said
