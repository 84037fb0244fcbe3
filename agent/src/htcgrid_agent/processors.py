"""How many processors this process may use: by its affinity and by the CPU quotas of its control groups."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def usable_processors(proc: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processors this process may keep busy; at least 1. A quota of 1.5 processors counts as 2."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(proc, cgroups))]))


def _quotas(proc: Path, cgroups: Path) -> Iterator[float]:
    """The CPU quotas, in processors, of the control groups of this process and of those around them."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _each_up(cgroups, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            yield from _each_up(cgroups / controllers, path, _quota_v1)
            yield from _each_up(cgroups / "cpu", path, _quota_v1)


def _each_up(root: Path, path: str, quota_of: Callable[[Path], float | None]) -> Iterator[float]:
    # A container may see its own group as the root, and be told the path that it has on the host.
    folder = root / path.lstrip("/")
    for group in (folder, *folder.parents):
        quota = quota_of(group)
        if quota is not None:
            yield quota
        if group == root:
            return


def _quota_v2(group: Path) -> float | None:
    """`cpu.max`: the quota or `max`, and the period, in microseconds (Linux, "Control Group v2")."""
    text = _read(group / "cpu.max")
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(group: Path) -> float | None:
    """`cpu.cfs_quota_us`: -1 for none (Linux, "CFS Bandwidth Control")."""
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
