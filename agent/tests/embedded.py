"""Where the embedded AWS is, and waiting for what other processes do."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from htcgrid_local.keys import Key

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(what: Callable[[], T], within: float = 60) -> T:
    """Wait until `what` gives something true, and give that."""
    end = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < end, f"did not come true within {within} s"
        time.sleep(0.02)
    return found


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        with ExitStack() as taken:
            first = taken.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for port in range(first + 1, first + count):
                    taken.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return int(first)


@dataclass(frozen=True)
class Embedded:
    """The embedded AWS of this run."""

    url: str
    key: Key
    elsewhere: Mapping[str, str]
    """Environment variables that name the URLs of services that are not served by it."""

    def url_of(self, service: str) -> str:
        return self.elsewhere.get(f"AWS_ENDPOINT_URL_{service.upper()}", self.url)
