"""Renders the chart of the nodes, as Helm does it, with the values files in `node_values`."""

from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).resolve().parents[1] / "chart/htcgrid-nodes"
VALUES = Path(__file__).parent / "node_values"
CASES = sorted(path.stem for path in VALUES.glob("*.yaml"))
WITH_KARPENTER = [case for case in CASES if case != "groups"]

Object = dict[str, Any]


def values_of(case: str) -> Object:
    read = [yaml.safe_load((VALUES / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("cluster", case)]
    return {key: value for values in read for key, value in values.items()}


def texts(values: Object) -> dict[str, str]:
    with helm_python.Chart.load(CHART) as chart:
        rendered: dict[str, str] = chart.render(values, name="nodes", namespace="kube-system")
    return rendered


def render(values: Object) -> dict[str, dict[str, Object]]:
    """The objects of a release by kind and name."""
    manifests = [text for name, text in texts(values).items() if not name.endswith(".txt")]
    objects = [each for text in manifests for each in yaml.safe_load_all(text) if each]
    found: dict[str, dict[str, Object]] = {"NodePool": {}, "EC2NodeClass": {}}
    for each in objects:
        name = each["metadata"]["name"]
        assert name not in found[each["kind"]]
        found[each["kind"]][name] = each
    return found


@cache
def objects(case: str) -> dict[str, dict[str, Object]]:
    return render(values_of(case))
