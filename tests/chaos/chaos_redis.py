"""The Redis of a grid, to be killed and started again, stopped, and emptied."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import redis

from htcgrid_dataplane.redis_client import connect
from htcgrid_dataplane.store_settings import RedisSettings, read_settings
from htcgrid_local import LocalGrid
from htcgrid_local.home import Home
from htcgrid_local.redis_server import redis_program

DURABLE = "appendonly yes\nappendfsync always\n"
"""What was written outlives the server, as it outlives a node of AWS whose replica takes over."""


class ChaosRedis:
    """A Redis that is this process's child."""

    def __init__(self, folder: Path, settings: RedisSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._disturbed = threading.Lock()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self._folder / "chaos.log").open("ab") as log:
            self._process = subprocess.Popen(
                [redis_program(), self._folder / "redis.conf"], cwd=self._folder, stdout=log, stderr=log
            )
        while True:
            with suppress(redis.ConnectionError, redis.exceptions.BusyLoadingError), self._client() as client:
                client.ping()
                return

    def kill_for(self, seconds: float) -> bool:
        """Kill it, and start it again after so long; false if it is being disturbed already."""
        return self._disturb(signal.SIGKILL, seconds)

    def freeze_for(self, seconds: float) -> bool:
        """Let it not answer for so long; false if it is being disturbed already."""
        return self._disturb(signal.SIGSTOP, seconds)

    def empty(self) -> bool:
        """Remove all that is in it; false if it is being disturbed."""
        if not self._disturbed.acquire(blocking=False):
            return False
        try:
            with self._client() as client:
                for key in client.scan_iter(count=1000):
                    client.unlink(key)
        finally:
            self._disturbed.release()
        return True

    def recover(self) -> None:
        """Wait until it is not disturbed any more."""
        with self._disturbed:
            pass

    def end(self) -> None:
        """End it for good."""
        self.recover()
        if self._process:
            self._process.kill()
            self._process.wait()

    def _disturb(self, number: int, seconds: float) -> bool:
        if not self._disturbed.acquire(blocking=False):
            return False
        assert self._process is not None
        self._process.send_signal(number)
        threading.Timer(seconds, self._mend).start()
        return True

    def _mend(self) -> None:
        assert self._process is not None
        try:
            self._process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                # It ends at once if it was killed.
                self._process.wait(1)
                self.start()
        finally:
            self._disturbed.release()

    def _client(self) -> redis.Redis:
        client = connect(self._settings)
        assert isinstance(client, redis.Redis)
        return client


@contextmanager
def redis_of(local: LocalGrid, home: Home) -> Iterator[ChaosRedis]:
    """Take over the Redis of a grid that is still idle."""
    environment = psutil.Process(local.agents[0].pid).environ()
    settings = read_settings(RedisSettings, json.loads(environment["HTCGRID_STORE_SETTINGS"]))
    config = home.redis / "redis.conf"
    config.write_text(config.read_text() + DURABLE)
    program = Path(redis_program()).name
    [server] = [child for child in psutil.Process().children(recursive=True) if child.name() == program]
    server.kill()
    server.wait()
    taken = ChaosRedis(home.redis, settings)
    taken.start()
    try:
        yield taken
    finally:
        taken.end()
