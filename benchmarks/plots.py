"""Draws what was measured, as SVG."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.scenarios import Figures

Measured = Mapping[str, Sequence[Figures]]


def draw(measured: Measured, folder: Path) -> None:
    """Write one picture for each figure that is worth one."""
    mpl.use("svg")
    _bars(measured, "tasks/s", folder / "throughput.svg")
    _bars(measured, "$ per million tasks", folder / "cost.svg")
    _bars(measured, "efficiency %", folder / "efficiency.svg")
    _stages(measured, folder / "latency.svg")
    _growth(measured, folder / "growth.svg")


def _bars(measured: Measured, figure: str, file: Path) -> None:
    having = {name: [run[figure] for run in runs] for name, runs in measured.items() if runs and figure in runs[0]}
    if not having:
        return
    middle = [median(values) for values in having.values()]
    spread = [
        [mid - min(values) for mid, values in zip(middle, having.values(), strict=True)],
        [max(values) - mid for mid, values in zip(middle, having.values(), strict=True)],
    ]
    picture, axes = plt.subplots(figsize=(9, 1 + 0.4 * len(having)), layout="constrained")
    axes.barh(list(having), middle, xerr=spread, color="tab:blue", ecolor="black", capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(figure)
    picture.savefig(file)
    plt.close(picture)


def _stages(measured: Measured, file: Path) -> None:
    for runs in measured.values():
        if runs and "p50 ms" in runs[0]:
            names = [name for name in runs[0] if name.startswith("  ")]
            picture, axes = plt.subplots(figsize=(9, 2.2), layout="constrained")
            left = 0.0
            for name in names:
                width = median(run[name] for run in runs)
                axes.barh(["one task"], [width], left=[left], label=name.strip().removesuffix(" ms"))
                left += width
            axes.set_xlabel("ms")
            axes.legend(ncols=3, fontsize="small")
            picture.savefig(file)
            plt.close(picture)


def _growth(measured: Measured, file: Path) -> None:
    points = sorted(
        (int(match[1].replace(",", "")), median(1e6 / run["tasks/s"] for run in runs))
        for name, runs in measured.items()
        if runs and (match := re.fullmatch(r"([\d,]+) no-op tasks, automatic chunks", name))
    )
    if len(points) < 2:
        return
    picture, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(*zip(*points, strict=True), marker="o")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks in the session")
    axes.set_ylabel("microseconds per task")
    picture.savefig(file)
    plt.close(picture)
