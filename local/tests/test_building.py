"""The build of the layer: real `sam build`, real make, and shared code of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from htcgrid_local import DeployError, Project, find_project
from htcgrid_local.building import build
from htcgrid_local.home import Home
from htcgrid_local.processes import Processes

pytestmark = pytest.mark.grid

_TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  RuntimeLayer:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: makefile, BuildArchitecture: arm64}
    Properties: {ContentUri: functions/layer, CompatibleRuntimes: [python3.13]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with the real recipe of the layer, and shared packages of one file each."""
    real, root = find_project(), tmp_path / "project"
    for part in ("events", "controlplane", "dataplane"):
        (root / part / "src" / part / "__pycache__").mkdir(parents=True)
        (root / part / "src" / part / "__init__.py").write_text("VERSION = 1\n")
        (root / part / "src" / part / "__pycache__" / "__init__.pyc").touch()
    (root / "functions/layer").mkdir(parents=True)
    for shared in ("samconfig.toml", ".tools", "requirements", "functions/layer/Makefile"):
        (root / shared).symlink_to(real.root / shared)
    (root / "template.yaml").write_text(_TEMPLATE)
    return Project(root)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.clear()
    return home


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes(lambda living: None)
    yield processes
    processes.close()


def test_the_layer_is_built_once_for_the_interpreter_that_runs_the_functions(
    project: Project, home: Home, processes: Processes
) -> None:
    template = build(project, home, processes)
    layer = template.parent / "RuntimeLayer/python"

    assert (layer / "controlplane/__init__.py").read_text() == "VERSION = 1\n"
    # Bytecode, and not what lay about beside the sources.
    assert all(file.stat().st_size for file in layer.rglob("*.pyc"))
    assert list(layer.glob("controlplane/__pycache__/*.pyc"))
    assert not list(layer.glob("botocore*"))
    subprocess.run(
        [project.emulator_python, "-c", "import aws_lambda_powertools, pydantic; assert pydantic.BaseModel"],
        env={"PYTHONPATH": str(layer), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )

    home.log("build").unlink()
    build(project, home, processes)
    assert not home.log("build").exists()

    (project.root / "controlplane/src/controlplane/__init__.py").write_text("VERSION = 2\n")
    build(project, home, processes)
    assert (layer / "controlplane/__init__.py").read_text() == "VERSION = 2\n"


def test_a_failed_build_says_why_and_is_tried_again(project: Project, home: Home, processes: Processes) -> None:
    project.template.write_text(_TEMPLATE.replace("functions/layer", "functions/nowhere"))

    for _ in range(2):
        with pytest.raises(DeployError, match=r"`sam build` ended with exit code \d+: .*nowhere"):
            build(project, home, processes)
