"""One embedded AWS, and waiting for what other processes do."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(what: Callable[[], T], within: float = 30) -> T:
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


class Embedded:
    """One MiniStack on the loopback."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "GATEWAY_PORT": str(self.port),
                "MINISTACK_HOST": "127.0.0.1",
                "IOT_MTLS_ENABLED": "0",
                "SFTP_ENABLED": "0",
                "LOG_LEVEL": "WARNING",
            }
            python = ROOT / ".tools/ministack/bin/python"
            command = [python, "-m", "hypercorn", "ministack.app:app", "--workers", "0"]
            self._log = (folder / "ministack.log").open("wb")
            self._process = subprocess.Popen(
                [str(part) for part in [*command, "--bind", f"fd://{listener.fileno()}"]],
                env=environment,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
                cwd=folder,
            )
        self.url = f"http://127.0.0.1:{self.port}"
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the embedded AWS ended"
        try:
            return httpx.get(f"{self.url}/_ministack/health", timeout=1).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        # Nothing is to be kept, and an orderly end would wait for abandoned long polls.
        self._process.kill()
        self._process.wait(10)
        self._log.close()
