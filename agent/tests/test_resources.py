"""What a process may use, as affinity and control groups say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from htcgrid_agent.resources import usable_memory, usable_processors
from htcgrid_agent.settings import Settings

ALL = len(os.sched_getaffinity(0))


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "contents", "quota"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        # A container that is told the path of its group on the host, but sees its group as the root.
        ("0::/kubepods/pod1/c1", {"cpu.max": "100000 100000"}, 1),
        ("0::/../../other", {"cpu.max": "100000 100000"}, 1),
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "25000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000"},
            1,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu,cpuacct:/x", {"cpu/cpu.cfs_quota_us": "90000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("2:memory:/\n0::/", {"cpu.max": "not numbers"}, None),
    ],
)
def test_quotas_of_control_groups_count(
    tmp_path: Path, groups: str, contents: dict[str, str], quota: int | None
) -> None:
    proc = files(tmp_path / "proc", {"cgroup": groups + "\n"})
    cgroups = files(tmp_path / "cgroups", contents)
    assert usable_processors(proc, cgroups) == (ALL if quota is None else min(ALL, quota))


def test_a_host_without_control_groups_has_all_its_processors(tmp_path: Path) -> None:
    assert usable_processors(tmp_path, tmp_path) == ALL


def test_an_agent_on_one_processor_has_one_worker() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from htcgrid_agent.settings import Settings; "
        "print(Settings.model_fields['workers'].get_default(call_default_factory=True))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("groups", "contents", "limit"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "1000000", "a/b/memory.max": "2000000"}, 1_000_000),
        ("5:memory:/a\n4:cpu:/b", {"memory/a/memory.limit_in_bytes": "3000000"}, 3_000_000),
        ("5:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_limits_of_memory_count(tmp_path: Path, groups: str, contents: dict[str, str], limit: int | None) -> None:
    proc = files(tmp_path / "proc", {"cgroup": groups + "\n"})
    cgroups = files(tmp_path / "cgroups", contents)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert usable_memory(proc, cgroups) == (physical if limit is None else limit)


def test_an_agent_holds_payloads_in_a_quarter_of_its_memory() -> None:
    default = Settings.model_fields["payload_memory_mb"].get_default(call_default_factory=True)
    assert default == max(16, usable_memory() // 4 // 1024 // 1024)
