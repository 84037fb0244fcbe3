"""A function in Python: `htcgrid local up --function examples/runtimes/python --handler handler.handler`."""

from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Add the numbers of a task."""
    return {"sum": sum(event["numbers"]), "by": "python"}
