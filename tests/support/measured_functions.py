"""Measures the embedded AWS and its Lambda functions while `make coverage` runs: imported by each of their processes.

They run in an environment without coverage.py, which is lent to them, and are killed at the end, so that what was
measured is saved every second.
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def start(lent: str) -> None:
    """Measure this process with the coverage.py in the folder `lent`."""
    sys.path.append(lent)
    import coverage

    packages = ["htcgrid_events", "htcgrid_chunks", "htcgrid_dataplane", "htcgrid_controlplane", "aws", "app"]
    measured = coverage.Coverage(
        config_file=str(ROOT / "pyproject.toml"),
        data_file=str(ROOT / ".coverage"),
        data_suffix=True,
        source_pkgs=packages,
    )
    measured.start()
    threading.Thread(target=_save_often, args=(measured,), daemon=True).start()


def _save_often(measured: Any) -> None:
    while True:
        time.sleep(1)
        measured.save()
