"""The function of the benchmarks: it does nothing, so that what is measured is the grid."""

from typing import Any


def handler(event: Any, context: Any) -> Any:
    """Give the event back."""
    return event
