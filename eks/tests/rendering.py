"""Renders the chart of the agents, as Helm does it, with the values files beside this module.

`python -m eks.tests.rendering FOLDER` writes what it renders into files, for tools that read them.
"""

import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "eks/chart/htcgrid-agents"
VALUES = Path(__file__).parent / "values"
RELEASE, NAMESPACE = "pool", "htcgrid"
CASES = ["grid", *sorted(path.stem for path in VALUES.glob("*.yaml") if path.stem != "grid")]
"""Names of the values files. `grid` is what all of them need, and alone the smallest release."""

Object = dict[str, Any]


def values_of(case: str) -> Object:
    """The values of `helm --values grid.yaml --values CASE.yaml`."""
    values = _read("grid")
    return values if case == "grid" else merged(values, _read(case))


def merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> Object:
    """Values with others over them, as Helm puts them together."""
    result = deepcopy(dict(values))
    for key, value in others.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(value, dict) and isinstance(old, dict) else deepcopy(value)
    return result


def render(values: Mapping[str, Any], namespace: str = NAMESPACE) -> list[Object]:
    """All objects of a release.

    Raises:
        HelmError: the values are refused.
    """
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(dict(values), name=RELEASE, namespace=namespace)
    manifests = [text for name, text in texts.items() if not name.endswith(".txt")]
    return [each for text in manifests for each in yaml.safe_load_all(text) if each]


@cache
def objects(case: str) -> list[Object]:
    """All objects of a release with the values of a file."""
    return render(values_of(case))


def find(rendered: list[Object], kind: str) -> Object:
    """The one object of this kind."""
    (found,) = (each for each in rendered if each["kind"] == kind)
    return found


def kinds(rendered: list[Object]) -> set[str]:
    return {each["kind"] for each in rendered}


def agent_pod(rendered: list[Object]) -> Object:
    """Metadata and specification of the agents' pods."""
    for each in rendered:
        if each["kind"] == "Deployment":
            return dict(each["spec"]["template"])
        if each["kind"] == "ScaledJob":
            return dict(each["spec"]["jobTargetRef"]["template"])
    raise AssertionError("no agents are rendered")


def pods(rendered: list[Object]) -> Iterator[Object]:
    """The agents' pods, and that of `helm test`."""
    yield agent_pod(rendered)
    yield from (each for each in rendered if each["kind"] == "Pod")


def containers(pod: Object) -> dict[str, Object]:
    spec = pod["spec"]
    return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}


def environment(container: Object) -> dict[str, Any]:
    """Variables by name; those that do not stand there by where they come from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}


def _read(case: str) -> Object:
    return dict(yaml.safe_load((VALUES / f"{case}.yaml").read_text(encoding="utf-8")))


def main(folder: Path) -> None:
    """Write a file for each values file. The job that KEDA would make of a ScaledJob stands there as a Job."""
    folder.mkdir(parents=True)
    for case in CASES:
        jobs = [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": each["metadata"],
                "spec": each["spec"]["jobTargetRef"],
            }
            for each in objects(case)
            if each["kind"] == "ScaledJob"
        ]
        (folder / f"{case}.yaml").write_text(yaml.safe_dump_all([*objects(case), *jobs]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
