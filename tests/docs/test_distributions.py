"""What a wheel says of itself to those who find it without this repository."""

import subprocess
import sys
import tomllib
from email import message_from_bytes
from email.message import Message
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import pytest

from htcgrid_events import VERSION

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/pyproject.toml"))


@pytest.fixture(scope="module", params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Path:
    return ROOT / str(request.param)


@pytest.fixture(scope="module")
def wheel(package: Path, tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=package, check=True
    )
    (file,) = folder.glob("*.whl")
    return ZipFile(file)


@cache
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_a_wheel_says_what_it_is(package: Path, wheel: ZipFile) -> None:
    said = metadata(wheel)
    assert said["Version"] == VERSION
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload(decode=True) == (package / "README.md").read_bytes()
    assert said["License-Expression"] == "Apache-2.0"
    classifiers = said.get_all("Classifier", [])
    assert {"Programming Language :: Python :: 3.11", "Typing :: Typed"} <= set(classifiers)
    links = {link.split(",")[0] for link in said.get_all("Project-URL", [])}
    assert links == {"Homepage", "Documentation", "Changelog", "Issues"}


def test_a_wheel_holds_the_licence_and_its_own_names_alone(package: Path, wheel: ZipFile) -> None:
    names = wheel.namelist()
    (licence,) = (name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    own = {path.name for path in (package / "src").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == own
    assert {f"{name}/py.typed" for name in own} <= set(names)


def test_packages_differ_only_in_what_is_their_own() -> None:
    def common(package: str) -> tuple[object, ...]:
        project = tomllib.loads((ROOT / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return tuple(project[key] for key in ("urls", "authors", "keywords", "requires-python", "license"))

    assert len({repr(common(package)) for package in PACKAGES}) == 1
