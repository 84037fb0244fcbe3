"""A function that behaves, or misbehaves, as each task tells it to."""

import os
import socket
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
            os._exit(event.get("code", 3))
        case "signal":
            os.kill(os.getpid(), event["number"])
            time.sleep(600)
        case "sleep":
            time.sleep(event["seconds"])
        case "kill-agent":
            # As a task that brings its host down. It may not see its agent, so whoever listens there does it.
            with socket.create_connection(("127.0.0.1", int(os.environ["CHAOS_EXECUTIONER_PORT"]))):
                time.sleep(600)
    return event["value"]
