"""Other ways to run the same no-op tasks on the same processors, and what they do not promise."""

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.scenarios import Figures
from htcgrid_local import LocalGrid

HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = HERE.parent / ".tools/peers"
_INSTALL_SECONDS: Final = 240
_RUN_SECONDS: Final = 180


@dataclass(frozen=True)
class Peer:
    """A program of `peer_programs` that prints how many tasks a second it ran."""

    name: str
    program: str
    packages: tuple[str, ...]
    lacks: str
    """What it does not guarantee that this grid does."""


PEERS: Final = (
    Peer(
        "Dask distributed",
        "dask_peer.py",
        ("distributed",),
        "tasks and results live in the memory of client and scheduler: their end loses all; no tenants, no leases",
    ),
    Peer(
        "Ray",
        "ray_peer.py",
        ("ray",),
        "results live in the memory of the nodes, and are lost with the process that asked for them; no tenants",
    ),
    Peer(
        "Celery on SQS",
        "celery_peer.py",
        ("celery", "boto3", "pycurl", "urllib3", "kombu[sqs]"),
        "a task may run twice or, acknowledged early, not at all; results are not kept here; no sessions, no account",
    ),
)
POOL_LACKS: Final = "one machine, one process tree: whatever ends loses its tasks; nothing is stored"


def pool(tasks: int, workers: int) -> Figures:
    """The floor: processes of this machine, with nothing between."""
    events = [{"number": number} for number in range(tasks)]
    with ProcessPoolExecutor(workers) as executor:
        list(executor.map(_same, events[:100]))
        began = time.perf_counter()
        if list(executor.map(_same, events, chunksize=100)) != events:
            raise AssertionError("the results are not those of the tasks")
        return {"tasks/s": tasks / (time.perf_counter() - began)}


def measure(peer: Peer, local: LocalGrid, tasks: int, workers: int) -> Figures | str:
    """Its figures, or why there are none."""
    missing = _install(peer)
    if missing:
        return f"not installed: {missing}"
    command = [ENVIRONMENT / "bin/python", HERE / "peer_programs" / peer.program, tasks, workers, local.endpoint_url]
    try:
        run = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **local.root_key.environment()},
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        return f"failed: {_last_line(error.stderr)}"
    except subprocess.TimeoutExpired:
        return f"did not end within {_RUN_SECONDS} s"
    return {"tasks/s": float(run.stdout.split()[-1])}


def _install(peer: Peer) -> str:
    stamp = ENVIRONMENT / f".{peer.program}"
    if stamp.exists():
        return ""
    python = ENVIRONMENT / "bin/python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, capture_output=True, text=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *peer.packages],
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        return _last_line(error.stderr)
    except subprocess.TimeoutExpired:
        return f"took longer than {_INSTALL_SECONDS} s"
    stamp.touch()
    return ""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:200]


def _same(event: Any) -> Any:
    return event
