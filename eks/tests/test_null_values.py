"""Null takes no default of a chart away: Helm leaves out what is null, so the schemas ask for every value."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from eks.tests import node_rendering, test_controllers_chart
from helm_python import HelmError

CHARTS: dict[str, tuple[Path, dict[str, Any]]] = {
    "nodes": (node_rendering.CHART, node_rendering.values_of(node_rendering.WITH_KARPENTER[0])),
    "controllers": (test_controllers_chart.CHART, test_controllers_chart.CASES["default"]),
}


def paths(values: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*before, key)
        # What is in a map of labels is the user's own.
        if isinstance(value, dict) and not key.endswith("Labels"):
            yield from paths(value, (*before, key))


ALL = [
    (chart, path)
    for chart, (folder, _) in CHARTS.items()
    for path in paths(yaml.safe_load((folder / "values.yaml").read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("chart", "path"), ALL, ids=[f"{chart}-{'.'.join(path)}" for chart, path in ALL])
def test_null_takes_nothing_away(chart: str, path: tuple[str, ...]) -> None:
    folder, values = CHARTS[chart]
    values = deepcopy(values)
    inner = values
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = None
    with helm_python.Chart.load(folder) as loaded, pytest.raises(HelmError, match=path[-1]):
        loaded.render(values, name="release", namespace="grid")
