"""A function that behaves, or misbehaves, as each task tells it to."""

import os
import signal
import time
from typing import Any


class UnknownCurve(LookupError):
    """What a task raises that is told to fail."""


def handler(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says under `do`, and give back its value."""
    match event["do"]:
        case "raise":
            raise UnknownCurve(event["value"])
        case "exit":
            os._exit(3)
        case "sleep":
            time.sleep(event["seconds"])
        case "kill-agent":
            # As a task that brings its host down.
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
    return event["value"]
