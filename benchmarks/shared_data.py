"""What shared data costs: one download for all tasks and agents of a node, and nothing per task after that."""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.scenarios import Figures, Scenario
from htcgrid import JSON, Grid
from htcgrid_dataplane import data_key
from htcgrid_events import DataReference
from htcgrid_local import LocalGrid
from htcgrid_local.home import Home

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_FETCHED = "shared data was fetched"


def shared_data(size: int, tasks: int) -> Scenario:
    """One session whose tasks all refer to the same data of so many bytes, and one of as many that refer to none."""

    def run(local: LocalGrid, grid: Grid) -> Figures:
        stored = os.urandom(size)
        digest = hashlib.sha256(stored).hexdigest()
        key = data_key(grid.info().tenant, digest)
        s3, bucket = local.client("s3"), local.outputs["DataBucket"]
        s3.put_object(Bucket=bucket, Key=key, Body=stored)
        raw = _download_seconds(s3, bucket, key)
        reference = DataReference(sha256=digest, bytes=size, name="data.bin").in_event()
        without: list[JSON] = [{"number": number} for number in range(tasks)]
        _seconds(grid, without[:20])
        first = _seconds(grid, [{"number": 0, "data": reference}])
        plain = _seconds(grid, without)
        shared = _seconds(grid, [{"number": number, "data": reference} for number in range(tasks)])
        return {
            "raw download s": raw,
            "first task s": first,
            "first task / raw": first / raw,
            "tasks/s without": tasks / plain,
            "tasks/s": tasks / shared,
            "time per task / without": shared / plain,
            "downloads": _downloads(local, digest),
            "agent peak MB": max(_peak_mb(agent.pid) for agent in local.agents),
        }

    return Scenario(f"{tasks:,} tasks with {size:,} bytes of shared data", run)


def _seconds(grid: Grid, events: list[JSON]) -> float:
    began = time.perf_counter()
    grid.submit(events).results(timeout=600)
    return time.perf_counter() - began


def _download_seconds(s3: "S3Client", bucket: str, key: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        s3.download_file(bucket, key, f"{folder}/data")
        return time.perf_counter() - began


def _downloads(local: LocalGrid, digest: str) -> int:
    home = Home(local.first_grid_configuration.parents[1])
    lines = [line for log in home.logs.glob("agent-*.log") for line in Path(log).read_text().splitlines()]
    return sum(_FETCHED in line and digest in line for line in lines)


def _peak_mb(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
