"""The function of the pool under test: the portfolio example's, unless an event says what to do instead."""

import os
import time
from typing import Any


def handler(event: dict[str, Any], context: Any) -> Any:
    """Price trades, or do what the event says under `do` and give back its value."""
    match event.get("do"):
        case None:
            # Imported on demand: it takes a second, which tasks of other kinds need not wait for.
            from handler import handler as price

            return price(event, context)
        case "sleep":
            time.sleep(event["seconds"])
        case "exit":
            os._exit(3)
        case "fill-memory":
            taken = []
            while True:
                taken.append(b"x" * 16_777_216)
    return event.get("value")
