"""Containers of an image, run by runc as the kubelet's runtime does, without a cluster.

As in a pod of the chart, the root is read only, nothing but the mounted folders can be written, there are no
capabilities and no way to new privileges, and containers share the network alone.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kubernetes.images import FOLDER, buildah

_RUNC = ("runc", "--root", str(FOLDER / "runc"))
_NAMESPACES = ("pid", "mount", "ipc", "uts")
_DEVICES = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
)


@dataclass(frozen=True)
class Mount:
    """A folder of the host that a container sees."""

    source: Path
    destination: str
    writable: bool = False

    def __str__(self) -> str:
        return self.destination


@dataclass(frozen=True)
class Container:
    """A container that runs, or has run."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self, signal: str = "TERM", within: float = 120) -> int:
        """Signal its first process, wait for its end, and give the exit code."""
        if self.process.poll() is None:
            subprocess.run([*_RUNC, "kill", self.name, signal], check=False, capture_output=True)
        return self.process.wait(within)

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")


@dataclass
class Runner:
    """Runs containers, and ends what is left of them."""

    folder: Path
    containers: list[tuple[Container, str]] = field(default_factory=list)

    def start(
        self,
        reference: str,
        *arguments: str,
        mounts: Sequence[Mount] = (),
        entrypoint: Sequence[str] = (),
        user: str = "",
        **environment: str,
    ) -> Container:
        """Start the image's entrypoint, or another one, as the image's user, or another one."""
        image = json.loads(buildah("inspect", "--type", "image", reference))["OCIv1"].get("config", {})
        layer = buildah("from", reference)
        name = f"htcgrid-{len(self.containers)}-{self.folder.name}"
        bundle = self.folder / name
        bundle.mkdir(parents=True)
        words = [*(entrypoint or image.get("Entrypoint", [])), *(arguments or image.get("Cmd", []))]
        user_id, _, group = (user or image["User"]).partition(":")
        variables = [*image.get("Env", []), *(f"{key}={value}" for key, value in environment.items())]
        process = {
            "user": {"uid": int(user_id), "gid": int(group)},
            "args": words,
            "env": variables,
            "cwd": image.get("WorkingDir") or "/",
            "noNewPrivileges": True,
        }
        root = buildah("mount", layer)
        (bundle / "config.json").write_text(json.dumps(_specification(process, root, mounts)), encoding="utf-8")
        log = bundle / "log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                [*_RUNC, "run", "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        container = Container(name, started, log)
        self.containers.append((container, layer))
        return container

    def run(self, reference: str, *arguments: str, within: float = 300, **how: Any) -> tuple[int, str]:
        """Run an image to its end; gives the exit code and what it said."""
        container = self.start(reference, *arguments, **how)
        return container.process.wait(within), container.said

    def close(self) -> None:
        """End all containers, and remove them."""
        for container, layer in reversed(self.containers):
            container.end("KILL")
            subprocess.run([*_RUNC, "delete", "--force", container.name], check=False, capture_output=True)
            buildah("rm", layer)


@contextmanager
def runner() -> Iterator[Runner]:
    """A runner for containers that end with it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Runner(Path(folder))
        try:
            yield made
        finally:
            made.close()


def _specification(process: Mapping[str, object], root: str, mounts: Sequence[Mount]) -> dict[str, object]:
    binds = [
        {
            "destination": mount.destination,
            "source": str(mount.source),
            "type": "bind",
            "options": ["rbind", "nosuid", "nodev", "rw" if mount.writable else "ro"],
        }
        for mount in mounts
    ]
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": True},
        "mounts": [*_DEVICES, *binds],
        "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
    }
