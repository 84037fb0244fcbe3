"""The servers of the second opinion: ElasticMQ for queues, Dynoxide for rows, each a process on the loopback."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil

from htcgrid_local.processes import Child, Processes

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".tools/second-opinion"
SERVICE_ENDPOINTS = ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB")
"""Variables by which every AWS client finds SQS and DynamoDB, if they are not where all other services are."""
_READY_WITHIN = timedelta(seconds=60)
# It lives for minutes and holds little: the compiler and the collector that start fastest.
_JAVA = ("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_ELASTICMQ = (
    *_JAVA,
    f"-Dconfig.file={ROOT / 'requirements/second-opinion/elasticmq.conf'}",
    "-cp",
    f"{INSTALLED / 'jars'}/*",
    "org.elasticmq.server.Main",
)
_DYNOXIDE = (str(INSTALLED / "cargo/bin/dynoxide"), "serve", "--host", "127.0.0.1", "--port", "0")


@contextmanager
def running_servers(folder: Path) -> Iterator[dict[str, str]]:
    """Start both, with nothing in them, and give the variables that name their endpoints; end them afterwards.

    Each chooses a free port itself, so nobody can take it in between. Their logs are in `folder`.

    Raises:
        RuntimeError: they are not installed, or one of them ended, or did not start in time.
    """
    if not Path(_DYNOXIDE[0]).exists():
        raise RuntimeError("The servers are not installed. Run: make test-second-opinion")
    processes = Processes(lambda _: None)
    try:
        started = [
            _start(processes, folder, "elasticmq", _ELASTICMQ),
            _start(processes, folder, "dynoxide", _DYNOXIDE),
        ]
        yield dict(zip(SERVICE_ENDPOINTS, [_url(child, folder) for child in started], strict=True))
    finally:
        processes.close()


def _start(processes: Processes, folder: Path, name: str, command: Sequence[str]) -> Child:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return processes.start(name, command, environment=environment, log=folder / f"{name}.log", folder=folder)


def _url(child: Child, folder: Path) -> str:
    """The address at which a server listens, once it does."""
    end = time.monotonic() + _READY_WITHIN.total_seconds()
    while time.monotonic() < end and child.exit_code is None:
        for connection in psutil.Process(child.process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return f"http://127.0.0.1:{connection.laddr.port}"
        time.sleep(0.05)
    log = (folder / f"{child.name}.log").read_text(errors="replace")
    raise RuntimeError(f"{child.name} did not start. It said:\n{log}")
