"""The function of the benchmarks: it does next to nothing, so that what is measured is the grid."""

import time
from typing import Any


def handler(event: Any, context: Any) -> Any:
    """Give the event back, after the seconds that it names under `nap`."""
    if isinstance(event, dict) and "nap" in event:
        time.sleep(event["nap"])
    return event
