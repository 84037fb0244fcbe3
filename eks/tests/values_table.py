"""Writes docs/kubernetes-values.md from the comments in the chart's values: `python -m eks.tests.values_table`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
VALUES = ROOT / "eks/chart/htcgrid-agents/values.yaml"
PAGE = ROOT / "docs/kubernetes-values.md"
_HEAD = """# Values of the agents' chart

What `helm --set NAME=…`, or a file given by `--values`, may say of a release of `eks/chart/htcgrid-agents`. Any other
name, and any value that a rule forbids, is refused with its place before anything is changed, such as
`at '/worker/count': minimum: got 0, want 1`. This page is made of the comments in
[the chart's values](../eks/chart/htcgrid-agents/values.yaml); how many agents there are is in [scaling](scaling.md).

| value | default | meaning |
|---|---|---|
"""


@dataclass(frozen=True)
class Value:
    """One value of the chart, or a section of them."""

    name: str
    """With those of its sections: `worker.count`."""
    default: Any
    meaning: str
    is_section: bool


def values() -> Iterator[Value]:
    """All values and sections, as they stand in the file."""
    text = VALUES.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _values_of(root, "", text.splitlines())


def page() -> str:
    """The text of the page."""
    return _HEAD + "".join(_row(each) for each in values())


def _values_of(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        name = prefix + key.value
        is_section = isinstance(value, yaml.MappingNode) and bool(value.value)
        default = yaml.safe_load(yaml.serialize(value)) if not is_section else None
        yield Value(name, default, _comment_above(key.start_mark.line, lines), is_section)
        if isinstance(value, yaml.MappingNode):
            yield from _values_of(value, f"{name}.", lines)


def _comment_above(line: int, lines: list[str]) -> str:
    comment: list[str] = []
    while line and (found := re.fullmatch(r"\s*# (.*)", lines[line - 1])):
        comment.insert(0, found[1])
        line -= 1
    return " ".join(comment)


def _row(value: Value) -> str:
    if value.is_section:
        return f"| **`{value.name}`** | | {value.meaning} |\n"
    return f"| `{value.name}` | {_default(value)} | {value.meaning} |\n"


def _default(value: Value) -> str:
    if value.default == "":
        return "empty" if "Empty:" in value.meaning else "must be given"
    return f"`{value.default if isinstance(value.default, str) else json.dumps(value.default)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
