"""The project's images, really built and without a daemon, on bases that are made from Debian's packages.

The Dockerfiles take their base as an argument, so only the public base images are not the real ones here: those of
Lambda are stood in for by a runtime of Debian and what their entrypoint does. All is kept in `.tools/kubernetes/images`
and built again when something that goes into it has changed. Needs root, buildah and mmdebstrap, and for what is not
there yet the network.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".tools/kubernetes/images"
SUITE = "bookworm"
PYTHON = "3.11"
"""That of the suite."""
PACKAGES = {
    "python": ("python3", "python3-venv", "python3-pip"),
    "runtimes": ("nodejs", "default-jre-headless"),
}
"""What Debian brings for each root file system."""
BASES = {
    "agent": "python",
    "client": "python",
    "controller": "python",
    "worker-python": "python",
    "worker-nodejs": "nodejs",
    "worker-java": "java",
    "worker-provided": "provided",
}
"""Of each image: its base."""
CLIENTS = {
    "nodejs": "exec node /var/runtime/node_modules/aws-lambda-ric/bin/index.mjs",
    "java": (
        "exec java -cp /var/task:/var/task/*:/var/task/lib/* com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
    ),
    "provided": None,
}
"""Of each base that stands in for Lambda's: how it starts its runtime client, unless the function brings one. Java's is
in the function's folder."""
NODE_CLIENT = ROOT / ".tools/node/node_modules"
_LAMBDA_ENTRYPOINT = """#!/bin/sh
# As in Lambda's base images, but for the emulator that theirs starts where there is no Runtime API.
export _HANDLER="$1"
exec /var/runtime/bootstrap
"""
_LEFT_OUT = ("doc", "locale", "info")
BUILDAH = ("buildah", "--root", str(FOLDER / "storage"), "--runroot", str(FOLDER / "run"))


@dataclass(frozen=True)
class Image:
    """An image that is there."""

    reference: str
    """As a pod names it, with `imagePullPolicy: Never`."""
    archive: Path
    """To be imported by `ctr --namespace k8s.io images import`."""


def image(name: str) -> Image:
    """The image that `eks/images/<name>/Dockerfile` describes, built if need be."""
    result = Image(f"localhost/htcgrid/{name}:test", FOLDER / f"{name}.tar")
    with locked():
        base, wheels = _base(BASES[name]), _wheels()
        sources = [*_files(ROOT / "eks/images" / name), *_context()]
        with made_once(result.archive, [base, BASES[name], _digest(sources)]) as due:
            if due:
                _build(name, result, base, wheels)
    return result


def lambda_image(kind: str) -> str:
    """The name of an image that stands in for one of Lambda's base images, as it is."""
    with locked():
        return _base(kind)


def _build(name: str, result: Image, base: str, wheels: Path) -> None:
    arguments = {"BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    options = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    dockerfile = f"eks/images/{name}/Dockerfile"
    _run("make", "dist", stdout=subprocess.DEVNULL)
    buildah(
        *("bud", "--isolation", "chroot", "--quiet", "--volume", f"{wheels}:/wheels:ro", *options),
        *("--file", dockerfile, "--tag", result.reference, "."),
    )
    result.archive.unlink(missing_ok=True)
    buildah("push", "--quiet", result.reference, f"docker-archive:{result.archive}:{result.reference}")


def _base(kind: str) -> str:
    """The name of a base image in buildah's store."""
    if kind in PACKAGES:
        return _root_file_system(kind)
    below, name = _root_file_system("runtimes"), f"localhost/htcgrid/base-{kind}:{SUITE}"
    stamp = FOLDER / f"base-{kind}"
    with made_once(stamp, [below, str(CLIENTS[kind]), _LAMBDA_ENTRYPOINT]) as due:
        if due:
            with tempfile.TemporaryDirectory() as folder:
                _lambda_files(Path(folder), kind)
                container = buildah("from", below)
                buildah("add", "--quiet", container, folder, "/")
                buildah("config", "--entrypoint", '["/lambda-entrypoint.sh"]', "--workingdir", "/var/task", container)
                buildah("commit", "--quiet", "--rm", container, name)
            stamp.touch()
    return name


def _lambda_files(root: Path, kind: str) -> None:
    runtime = root / "var/runtime"
    for folder in (runtime, root / "var/task", root / "opt"):
        folder.mkdir(parents=True)
    root.chmod(0o755)
    programs = {root / "lambda-entrypoint.sh": _LAMBDA_ENTRYPOINT}
    if client := CLIENTS[kind]:
        programs[runtime / "bootstrap"] = f'#!/bin/sh\n{client} "$_HANDLER"\n'
    for path, text in programs.items():
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    if kind == "nodejs":
        if not NODE_CLIENT.exists():
            raise RuntimeError(f"{NODE_CLIENT} is missing: install what `make install` says that it needs for Node.js.")
        shutil.copytree(NODE_CLIENT, runtime / "node_modules", symlinks=True)


def _root_file_system(kind: str) -> str:
    name = f"localhost/htcgrid/base-{kind}:{SUITE}"
    stamp = FOLDER / f"base-{kind}"
    with made_once(stamp, [SUITE, *PACKAGES[kind]]) as due:
        if due:
            tar = FOLDER / f"base-{kind}.tar"
            left_out = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
            include = f"--include={','.join(PACKAGES[kind])}"
            _run("mmdebstrap", "--quiet", "--variant=minbase", include, *left_out, SUITE, str(tar))
            container = buildah("from", "scratch")
            buildah("add", "--quiet", container, str(tar), "/")
            buildah("commit", "--quiet", "--rm", container, name)
            tar.unlink()
            stamp.touch()
    return name


def _wheels() -> Path:
    """A folder with the locked wheels of all images."""
    folder = FOLDER / "wheels"
    locks = [ROOT / f"requirements/{lock}.txt" for lock in ("agent", "client", "controller", "worker-python")]
    with made_once(folder, [PYTHON, _digest(locks)]) as due:
        if due:
            machine = platform.machine()
            kinds = [f"manylinux_2_{minor}_{machine}" for minor in (17, 28, 34)] + [f"manylinux2014_{machine}"]
            platforms = [word for kind in kinds for word in ("--platform", kind)]
            everywhere = FOLDER / "wheels.txt"
            for lock in locks:
                # Whether a package is needed is up to the Python in the image; pip would ask the one that runs it.
                everywhere.write_text(
                    re.sub(r" ; .*(?= \\$)", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
                )
                _run(
                    *(str(ROOT / ".tools/uv/bin/pip"), "download", "--quiet", "--require-hashes", "--no-deps"),
                    *("--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON, *platforms),
                    *("--dest", str(folder), "--requirement", str(everywhere)),
                )
    return folder


def _context() -> Iterator[Path]:
    """What may be copied into images; the packages' sources in place of their wheels."""
    for package in ("agent", "chunks", "connector", "dataplane", "eks", "events"):
        yield ROOT / package / "pyproject.toml"
        yield from _files(ROOT / package / "src")
    yield from (ROOT / "requirements").glob("*.txt")
    yield ROOT / ".dockerignore"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def tree_digest(folder: Path) -> str:
    """Of a folder of the repository: what its files are called and hold."""
    return _digest(_files(folder))


def _digest(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for file in sorted(files):
        content.update(f"{file.relative_to(ROOT)}\0{file.stat().st_mode:o}\0".encode())
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()


@contextmanager
def made_once(target: Path, made_of: Sequence[str]) -> Iterator[bool]:
    """Whether the target is missing, or was made of something else. It is noted of what, unless making it fails."""
    note = target.with_name(f"{target.name}.made-of")
    words = "\n".join(made_of)
    due = not target.exists() or not note.exists() or note.read_text(encoding="utf-8") != words
    if due:
        note.unlink(missing_ok=True)
    yield due
    note.write_text(words, encoding="utf-8")


@contextmanager
def locked() -> Iterator[None]:
    """One process at a time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def buildah(*words: str) -> str:
    """What buildah says, which keeps its images with ours."""
    return _run(*BUILDAH, *words, stdout=subprocess.PIPE).strip()


def _run(*words: str, stdout: int | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    done = subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=stdout, text=True)
    return done.stdout or ""
