"""`python -m benchmarks`: measures a grid of this machine, prints one table and writes `results/latest.json`.

Every scenario runs several times on one warm grid; the table gives the median and the spread.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.scenarios import Figures, Scenario, going_down, latency, throughput
from htcgrid import Grid
from htcgrid_local import LocalGrid

HERE = Path(__file__).parent
WORKERS = 4
"""As many slots as the agent's memory is judged by."""
QUICK = (latency(30), throughput(20_000, None), throughput(2_000, 100), throughput(1_000, 1), going_down())
FULL = (latency(100), throughput(100_000, None), throughput(20_000, 100), throughput(2_000, 1), going_down())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="larger sessions, for some ten minutes")
    parser.add_argument("--repetitions", type=int, default=3, help="how often each scenario runs (default: 3)")
    arguments = parser.parse_args()
    # Where nobody looks on, in a file or a log, there is room for a line per figure.
    console = Console(width=None if sys.stdout.isatty() else 120)
    measured: dict[str, list[Figures]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="htcgrid-bench-") as home,
        LocalGrid(Path(home), function=HERE / "function", agents=1, workers=WORKERS) as local,
        Grid.connect(local.profile) as grid,
    ):
        latency(10).run(local, grid)
        for scenario in FULL if arguments.full else QUICK:
            measured[scenario.name] = repeat(scenario, arguments.repetitions, local, grid, console)
    console.print(table(measured))
    save(measured)


def repeat(scenario: Scenario, repetitions: int, local: LocalGrid, grid: Grid, console: Console) -> list[Figures]:
    """Run one scenario several times."""
    figures = []
    for number in range(repetitions):
        console.print(f"{scenario.name}: {number + 1} of {repetitions}", highlight=False)
        figures.append(scenario.run(local, grid))
    return figures


def table(measured: dict[str, list[Figures]]) -> Table:
    """Median and spread of every figure."""
    result = Table(title=f"HTC-Grid on {os.cpu_count()} processors, client, embedded AWS and workers included")
    for heading in ("scenario", "figure"):
        result.add_column(heading)
    for heading in ("median", "least", "most"):
        result.add_column(heading, justify="right", no_wrap=True, min_width=6)
    for scenario, runs in measured.items():
        for place, name in enumerate(runs[0]):
            values = [run[name] for run in runs if name in run]
            result.add_row(
                scenario if place == 0 else "",
                name,
                *(f"{value:,.3g}" for value in (statistics.median(values), min(values), max(values))),
            )
    return result


def save(measured: dict[str, list[Figures]]) -> None:
    """Write all figures of all runs, with what they were measured on."""
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "scenarios": measured,
    }
    (folder / "latest.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
