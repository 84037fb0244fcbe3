"""What this process may use of its host: by its affinity and by the limits of its control groups."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def usable_processors(proc: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processors this process may keep busy; at least 1. A quota of 1.5 processors counts as 2."""
    allowed = len(os.sched_getaffinity(0))
    return max(
        1, min([allowed, *(math.ceil(quota) for quota in _limits(proc, cgroups, "cpu", (_quota_v2, _quota_v1)))])
    )


def usable_memory(proc: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many bytes of memory this process, and what it shares its limits with, may take."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = _limits(proc, cgroups, "memory", (_memory_v2, _memory_v1))
    return min([physical, *(int(limit) for limit in limits)])


_Limit = Callable[[Path], float | None]


def _limits(proc: Path, cgroups: Path, controller: str, limit: tuple[_Limit, _Limit]) -> Iterator[float]:
    """A limit of the control groups of this process and of those around them, as read in version 2 and in version 1."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _each_up(cgroups, path, limit[0])
        elif controller in controllers.split(","):
            yield from _each_up(cgroups / controllers, path, limit[1])
            yield from _each_up(cgroups / controller, path, limit[1])


def _each_up(root: Path, path: str, limit_of: _Limit) -> Iterator[float]:
    # A container may see its own group as the root, and be told the path that it has on the host.
    folder = root / path.lstrip("/")
    for group in (folder, *folder.parents):
        limit = limit_of(group)
        if limit is not None:
            yield limit
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


def _memory_v2(group: Path) -> float | None:
    """`memory.max`: bytes or `max` (Linux, "Control Group v2")."""
    return _bytes(group / "memory.max")


def _memory_v1(group: Path) -> float | None:
    """`memory.limit_in_bytes`: bytes, more than any machine has for none (Linux, "Memory Resource Controller")."""
    return _bytes(group / "memory.limit_in_bytes")


def _bytes(file: Path) -> float | None:
    text = _read(file)
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
