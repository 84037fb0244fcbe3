"""Which permissions of the template a run has used, by all grids that it started."""

import json
from typing import NamedTuple

from htcgrid_local import LocalGrid


class Permission(NamedTuple):
    """An action that a statement of a role allows; of a refused one, the statement is empty."""

    role: str
    statement: str
    action: str


_used: set[Permission] = set()


def note(grid: LocalGrid) -> frozenset[Permission]:
    """Add what a grid has used so far, and return what all have used."""
    resources = grid.client("cloudformation").describe_stack_resources(StackName="htcgrid")["StackResources"]
    names = {each["PhysicalResourceId"]: each["LogicalResourceId"] for each in resources}
    _, answer = grid.root_key.ask("GET", f"{grid.endpoint_url}/_htcgrid/permissions", 60)
    for entry in json.loads(answer):
        if entry["role"] in names:
            _used.add(Permission(names[entry["role"]], entry["statement"], entry["action"]))
    return frozenset(_used)
