"""`python -m benchmarks`: measures a grid of this machine, prints one table, writes JSON and pictures to `results/`.

Every scenario runs several times on one warm grid; the table gives the median and the spread.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.scenarios import Figures, Scenario, latency, throughput
from benchmarks.suites import FULL, QUICK, WORKERS, Suite
from htcgrid import Grid
from htcgrid_local import LocalGrid

HERE = Path(__file__).parent
PEER_TASKS = {False: 2_000, True: 20_000}
PEER_TASKS_ON_SQS = 500


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="larger sessions, for some twenty minutes")
    parser.add_argument("--repetitions", type=int, default=3, help="how often each scenario runs (default: 3)")
    parser.add_argument("--only", default="", help="only scenarios whose name holds this")
    arguments = parser.parse_args()
    # Where nobody looks on, in a file or a log, there is room for a line per figure.
    console = Console(width=None if sys.stdout.isatty() else 120)
    busy = os.getloadavg()[0]
    measured: dict[str, list[Figures]] = {}
    skipped: dict[str, str] = {}
    for suite in FULL if arguments.full else QUICK:
        wanted = [scenario for scenario in suite.scenarios if arguments.only in scenario.name + suite.suffix]
        if wanted or (suite.peers and arguments.only in "peers"):
            measure(suite, wanted, arguments, measured, skipped, console)
    console.print(table(measured))
    for name, reason in skipped.items():
        console.print(f"{name}: {reason}", highlight=False)
    console.print(f"load of the machine before: {busy:.1f}, after: {os.getloadavg()[0]:.1f}", highlight=False)
    save(measured, skipped, busy)


def measure(
    suite: Suite,
    scenarios: Sequence[Scenario],
    arguments: argparse.Namespace,
    measured: dict[str, list[Figures]],
    skipped: dict[str, str],
    console: Console,
) -> None:
    """Run scenarios on one grid of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="htcgrid-bench-") as home,
        LocalGrid(
            Path(home),
            function=HERE / "function",
            agents=suite.agents,
            workers=WORKERS,
            store=suite.store,
            environment=suite.environment,
        ) as local,
        Grid.connect(local.profile) as grid,
    ):
        for warming in (latency(10), throughput(1_000, None)):
            warming.run(local, grid)
        for scenario in scenarios:
            name = scenario.name + suite.suffix
            measured[name] = []
            for number in range(scenario.repetitions or arguments.repetitions):
                console.print(f"{name}: {number + 1}", highlight=False)
                measured[name].append(scenario.run(local, grid))
        if suite.peers and arguments.only in "peers":
            measure_peers(local, arguments, measured, skipped, console)


def measure_peers(
    local: LocalGrid,
    arguments: argparse.Namespace,
    measured: dict[str, list[Figures]],
    skipped: dict[str, str],
    console: Console,
) -> None:
    """Run the others on the same machine, while this grid is idle."""
    tasks = PEER_TASKS[arguments.full]
    measured["peer: ProcessPoolExecutor, chunks of 100"] = [
        peers.pool(10 * tasks, WORKERS) for _ in range(arguments.repetitions)
    ]
    skipped["ProcessPoolExecutor does not guarantee"] = peers.POOL_LACKS
    for peer in peers.PEERS:
        skipped[f"{peer.name} does not guarantee"] = peer.lacks
        console.print(f"peer: {peer.name}", highlight=False)
        figures = peers.measure(peer, local, PEER_TASKS_ON_SQS if "SQS" in peer.name else tasks, WORKERS)
        if isinstance(figures, str):
            skipped[f"peer: {peer.name} was skipped"] = figures
        else:
            measured[f"peer: {peer.name}"] = [figures]


def table(measured: Mapping[str, Sequence[Figures]]) -> Table:
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


def save(measured: Mapping[str, Sequence[Figures]], skipped: Mapping[str, str], busy: float) -> None:
    """Write all figures of all runs, with what they were measured on."""
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "load_before": busy,
        "python": platform.python_version(),
        "scenarios": measured,
        "remarks": skipped,
    }
    (folder / "latest.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    # Drawing takes memory that is the client's no more.
    from benchmarks import plots

    plots.draw(measured, folder)


if __name__ == "__main__":
    main()
