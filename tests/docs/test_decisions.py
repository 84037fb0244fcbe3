"""The records of decisions, the README's table of folders and the contracts of imports tell of what is there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADR = ROOT / "docs/adr"


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def first_column(path: str) -> list[str]:
    """What stands between backticks in the first column of a document's tables."""
    rows = re.findall(r"^\| (`[^|]+`) \|", text(path), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_decision_is_listed_once_and_every_gap_is_explained() -> None:
    listed = re.findall(r"^- \[(\d{4})\]\((\S+)\)", text("docs/adr/README.md"), re.MULTILINE)
    files = sorted(path.name for path in ADR.glob("0*.md"))
    assert [name for _, name in listed] == files
    assert [number for number, _ in listed] == [name[:4] for name in files]
    gaps = {f"{number:04}" for number in range(1, int(files[-1][:4]))} - {name[:4] for name in files}
    assert gaps == set(re.findall(r"\b\d{4}\b", re.sub(r"^- .*", "", text("docs/adr/README.md"), flags=re.MULTILINE)))


def test_every_patch_of_the_embedded_aws_is_explained() -> None:
    modules = {path.name for path in (ROOT / "local/src/htcgrid_local/embedded/aws").glob("[!_]*.py")}
    assert set(first_column("docs/adr/0007-emulator-in-its-own-environment.md")) == modules


def test_the_layer_holds_the_packages_that_its_decision_names() -> None:
    (built,) = re.findall(r"^SHARED := (.+)$", text("functions/layer/Makefile"), re.MULTILINE)
    (named,) = re.findall(r"^All shared code \((.+?)\)", text("docs/adr/0006-one-layer-built-by-make.md"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", named) == built.split()


@pytest.mark.parametrize("package", sorted(path.parent.name for path in ROOT.glob("*/pyproject.toml")))
def test_the_dependencies_of_a_package_are_those_of_its_decision(package: str) -> None:
    project = tomllib.loads(text(f"{package}/pyproject.toml"))["project"]
    groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    declared = {re.split(r"[<>=\[]", line)[0] for group in groups for line in group}
    table = re.findall(r"^\| `(\S+)` \| (.+) \|$", text("docs/adr/0011-dependencies-and-licences.md"), re.MULTILINE)
    words = re.sub(r"`\w+`:?|\b(with|the|extras?|nothing)\b", "", dict(table)[project["name"]])
    assert set(re.findall(r"[\w-]+", words)) == declared


def test_the_readme_lists_every_folder() -> None:
    command = ["git", "-c", "safe.directory=*", "ls-files"]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    folders = {name.split("/")[0] + "/" for name in tracked if "/" in name and not name.startswith(".")}
    assert {name for name in first_column("README.md") if name.endswith("/")} == folders


def test_the_readme_links_every_runbook() -> None:
    linked = set(re.findall(r"\]\(docs/runbooks/(\w+\.md)\)", text("README.md")))
    assert linked == {path.name for path in (ROOT / "docs/runbooks").glob("*.md")}
