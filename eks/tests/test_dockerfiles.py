"""What must hold for every image, as its Dockerfile says it."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted(path.parent.name for path in (ROOT / "eks/images").glob("*/Dockerfile"))
USERS = {"agent": "10001:10000", "client": "10003:10000", "controller": "10003:10000"}
WORKER = "10002:10000"
PACKAGES = {"agent": "htcgrid-agent", "client": "htcgrid[aws]", "controller": "htcgrid-eks"}
"""The package of the project that an image holds with all that it needs."""
LABELS = {"title", "description", "source", "licenses", "version", "revision"}
every_image = pytest.mark.parametrize("name", IMAGES)


def instructions(name: str) -> list[tuple[str, str]]:
    """Those of a Dockerfile, with their lines put together."""
    text = (ROOT / "eks/images" / name / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole if line]


def last_stage(name: str) -> list[tuple[str, str]]:
    all_of_them = instructions(name)
    start = max(number for number, (word, _) in enumerate(all_of_them) if word == "FROM")
    return all_of_them[start:]


def copied(name: str) -> Iterator[str]:
    """What is copied out of the context."""
    for word, rest in instructions(name):
        if word == "COPY" and "--from" not in rest:
            yield from [part for part in rest.split() if not part.startswith("--")][:-1]


def test_there_is_an_image_for_each_part_of_a_pod() -> None:
    assert {"agent", "client", "worker-python", "worker-nodejs", "worker-java", "worker-provided"} <= set(IMAGES)


@every_image
def test_the_base_is_an_argument_with_a_version(name: str) -> None:
    (word, default), *_ = instructions(name)
    assert word == "ARG"
    assert re.fullmatch(r"BASE=public\.ecr\.aws/[a-z/]+:(\d[\w.-]*|al2023)", default)
    froms = [rest.split()[0] for word, rest in instructions(name) if word == "FROM"]
    assert froms == ["${BASE}"] * 2


@every_image
def test_nothing_runs_as_root(name: str) -> None:
    assert [rest for word, rest in last_stage(name) if word == "USER"] == [USERS.get(name, WORKER)]


@every_image
def test_what_starts_is_started_without_a_shell_and_probed_by_nobody_else(name: str) -> None:
    stage = last_stage(name)
    (entrypoint,) = [rest for word, rest in stage if word == "ENTRYPOINT"]
    assert entrypoint.startswith("[")
    assert "HEALTHCHECK" not in {word for word, _ in instructions(name)}
    assert not [rest for word, rest in stage if word == "RUN" and re.search(r"\b(pip|apt-get|dnf|npm)\b", rest)]


@every_image
def test_it_says_what_it_is(name: str) -> None:
    (labels,) = [rest for word, rest in last_stage(name) if word == "LABEL"]
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) == LABELS
    assert f'title="htcgrid-{name}"' in labels


@every_image
def test_packages_come_from_locks_or_from_the_project(name: str) -> None:
    runs = [rest for word, rest in instructions(name) if word == "RUN"]
    for run in runs:
        for command in re.findall(r"pip install[^&]*", run):
            assert "--require-hashes" in command or "--no-index --no-deps" in command
    assert not [word for word, _ in instructions(name) if word == "ADD"]


@every_image
def test_the_context_holds_what_is_copied(name: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for source in copied(name):
        assert any(fnmatch(source, pattern) for pattern in allowed), f"{source} is not in the context"
        assert source.startswith("dist/") or (ROOT / source).is_file()


def test_the_context_holds_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    used = {source for name in IMAGES for source in copied(name)}
    unused = {rule for rule in rules[1:] if not any(fnmatch(source, rule.removeprefix("!")) for source in used)}
    assert unused == set()


def needs(requirement: str) -> Iterator[str]:
    """The names of what a package needs that is not of the project, and the names of the project's wheels."""
    name, _, extras = requirement.partition("[")
    name = re.split(r"[^A-Za-z0-9-]", name)[0]
    if name != "htcgrid" and not name.startswith("htcgrid-"):
        yield name
        return
    yield f"dist/{name.replace('-', '_')}-*.whl"
    folder = "connector" if name == "htcgrid" else name.removeprefix("htcgrid-")
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in filter(None, extras.rstrip("]").split(",")):
        project["dependencies"] += project["optional-dependencies"][extra]
    for each in project["dependencies"]:
        yield from needs(each)


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_an_image_holds_what_its_package_needs(name: str) -> None:
    needed = set(needs(PACKAGES[name]))
    lines = (ROOT / f"requirements/{name}.in").read_text(encoding="utf-8").splitlines()
    listed = {each for line in lines if line and not line.startswith("#") for each in needs(line)}
    wheels = {source for source in copied(name) if source.startswith("dist/")}
    assert listed | wheels == needed


@pytest.mark.parametrize("name", sorted({*PACKAGES, "worker-python"}))
def test_an_image_holds_the_versions_that_are_tested(name: str) -> None:
    def versions(lock: str) -> set[str]:
        text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
        return set(re.findall(r"^([A-Za-z0-9._-]+==[^ ;]+)", text, re.MULTILINE))

    assert versions(name) <= versions("dev")


def test_scripts_of_images_are_valid_for_a_plain_shell() -> None:
    scripts = [*(ROOT / "eks/images").rglob("*.sh"), *(ROOT / "agent/src").rglob("*.sh")]
    assert len(scripts) >= 3
    for script in scripts:
        assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.parametrize("bootstrap", ["task", "none"])
def test_a_bootstrap_is_found_with_its_handler(tmp_path: Path, bootstrap: str) -> None:
    script = ROOT / "eks/images/worker-provided/run_bootstrap.sh"
    (tmp_path / "bootstrap").write_text('#!/bin/sh\necho "$_HANDLER"\n')
    (tmp_path / "bootstrap").chmod(0o755 if bootstrap == "task" else 0o644)
    environment = {"LAMBDA_TASK_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", str(script), "a.handler"], env=environment, capture_output=True, text=True, check=False
    )
    if bootstrap == "task":
        assert (done.returncode, done.stdout) == (0, "a.handler\n")
    else:
        assert done.returncode == 1
        assert done.stderr.startswith("There is no executable file bootstrap in")


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_without_a_builder_make_says_so(tmp_path: Path) -> None:
    for tool in ("bash", "sh", "env", "sed", "git", "awk", "getconf", "python3", "readlink", "dirname", "find"):
        if found := shutil.which(tool):
            (tmp_path / tool).symlink_to(found)
    make = shutil.which("make")
    assert make
    done = subprocess.run(
        [make, "images"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "make images needs docker with its daemon, podman or buildah: install one of them." in done.stderr
