"""The table in CONTRIBUTING that says where something new goes is true of its examples."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = re.findall(
    r"^\| ([a-z][^|]+) \| `(\w+)` \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE
)


def test_it_says_where_what_is_asked_for_most_goes() -> None:
    asked = {"payload store", "setting of a partition", "route of the API", "option of a session", "command"}
    assert asked | {"event on the bus"} <= {name for name, _, _ in TABLE}


@pytest.mark.parametrize(("name", "example", "places"), TABLE, ids=[name for name, _, _ in TABLE])
def test_the_example_is_in_every_place_of_its_row(name: str, example: str, places: str) -> None:
    paths = re.findall(r"`([^`]+)`", places)
    assert len(paths) >= 2
    for path in paths:
        known = path.replace("-", "_") + (ROOT / path).read_text(encoding="utf-8").replace("-", "_")
        assert example.lower() in known.lower(), f"{path} does not know {example}"
