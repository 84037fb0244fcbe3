"""A function that behaves as each task tells it to."""

import base64
import hashlib
import os
import random
import time
from pathlib import Path
from typing import Any


def noise(seed: int, size: int) -> str:
    """A text of so many bytes that hardly compresses."""
    return base64.b85encode(random.Random(seed).randbytes(size * 4 // 5)).decode()


def handler(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says under `do`; echo its value otherwise."""
    # Each worker may be a user of its own, and another one may go on with a note. Tests import this module.
    os.umask(0)
    match event.get("do", "echo"):
        case "raise":
            raise LookupError(event["message"])
        case "raise_once" if not Path(event["note"]).exists():
            Path(event["note"]).touch()
            raise LookupError("the first try fails")
        case "raise_once":
            while not Path(event["until"]).exists():
                time.sleep(0.02)
        case "sleep":
            Path(event["note"]).touch()
            time.sleep(event["seconds"])
        case "wait":
            Path(event["note"]).touch()
            while not Path(event["until"]).exists():
                time.sleep(0.02)
        case "digest":
            return hashlib.sha256(Path(event["data"], event.get("below", "")).read_bytes()).hexdigest()
        case "fill":
            return "x" * event["size"]
        case "noise":
            return noise(event["seed"], event["size"])
    return event.get("value")
