"""`sam build` for the interpreter of the embedded AWS, skipped while nothing that goes into it has changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from htcgrid_local.emulator import without_proxy
from htcgrid_local.errors import DeployError
from htcgrid_local.home import Home
from htcgrid_local.keys import REGION
from htcgrid_local.log_excerpts import failure_reason
from htcgrid_local.private_files import PRIVATE_UMASK
from htcgrid_local.processes import Processes
from htcgrid_local.project import Project

# What the build reads. Functions and state machines are not among it: the built template points at their sources.
_INPUTS: Final = (
    "template.yaml",
    "partition.yaml",
    "samconfig.toml",
    "functions/layer",
    "requirements/functions.txt",
    "requirements/ministack.txt",
    "events/src",
    "chunks/src",
    "controlplane/src",
    "dataplane/src",
)


def build(project: Project, home: Home, processes: Processes) -> Path:
    """Make sure that the build is up to date, and return the built template.

    Grids that share a checkout wait for each other's build.

    Raises:
        DeployError: `sam build` failed.
    """
    project.build.mkdir(parents=True, exist_ok=True)
    built = project.build / "build/template.yaml"
    stamp = project.build / "inputs.sha256"
    with (project.build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest(project)
        if built.is_file() and stamp.is_file() and stamp.read_text() == digest:
            return built
        stamp.unlink(missing_ok=True)
        _run_sam_build(project, home, processes)
        stamp.write_text(digest)
    return built


def _run_sam_build(project: Project, home: Home, processes: Processes) -> None:
    log = home.log("build")
    child = processes.start(
        "build",
        [project.sam, "build", "--config-env", "local", "--template-file", project.template,
         "--build-dir", project.build / "build"],
        environment=sam_environment(home)
        | {
            "HTCGRID_BUILD": "local",
            "HTCGRID_BUILD_PYTHON": str(project.emulator_python),
            "AWS_DEFAULT_REGION": REGION,
        },
        log=log,
        folder=project.root,
        umask=PRIVATE_UMASK,
    )  # fmt: skip
    child.process.wait()
    if code := processes.end(child):
        raise DeployError(f"`sam build` ended with exit code {code}: {failure_reason(log)} (all of it in {log}).")


def sam_environment(home: Home) -> dict[str, str]:
    """The environment of every call of the SAM CLI: no telemetry, no proxy on the loopback, its files in the home."""
    # The caller's own settings of proxies, certificates and package indexes must reach the build, its AWS account must
    # not, and neither may the jobs of a make above it.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SAM_CLI_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHON"))
    }
    return without_proxy(kept) | {
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(home.sam),
        # It asks a stack's progress every 5 s unless told otherwise.
        "SAM_CLI_POLL_DELAY": "0.2",
        "PYTHONUNBUFFERED": "1",
    }


def _digest(project: Project) -> str:
    digest = hashlib.sha256(str(project.emulator_python.resolve()).encode())
    for name in _INPUTS:
        for file in _files(project.root / name):
            digest.update(f"\0{file.relative_to(project.root)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
