"""Value a book of option trades on a grid, report its risk, and prove the result equal to that of one process.

Without options it starts a whole grid on this machine, and stops it in the end. Exits with 1 if a single figure of a
single trade differs.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from portfolio_demo.book import Event, read_book, read_market
from portfolio_demo.compare import differences
from portfolio_demo.in_process import load_handler
from portfolio_demo.report import risk_by_underlying, risk_table
from portfolio_demo.stages import Timestamps, stage_table, stage_times
from portfolio_demo.tasks import event_for, group, positions_of
from rich.console import Console

from htcgrid import JSON, Grid, GridError, Profile
from htcgrid_local import LocalGrid, LocalGridError, Terminal

if TYPE_CHECKING:
    from handler import PricingResult
    from option_pricing import Position

HERE = Path(__file__).resolve().parent
FUNCTION = HERE / "function"
WORKERS = 2
GROUPS = 120
"""Tasks of about 75 ms. Up to 127 of them the connector schedules each by itself, so the stages below are per task."""
SHOWN_DIFFERENCES = 10


@dataclass(frozen=True, slots=True)
class GridRun:
    """What a session gave back, and the seconds from before its submission to its last result."""

    results: Sequence["PricingResult"]
    timeline: Sequence[Timestamps]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    options = parse_options(arguments)
    console = Console()
    book, market = read_book(HERE / "data" / "book.csv"), read_market(HERE / "data" / "market.json")
    events = [event_for(trades, market) for trades in group(book, options.groups)]

    with grid_profile(options.profile, console) as profile:
        console.print(f"{len(book):,} trades in {len(events):,} tasks")
        run = run_on_grid(events, profile)
    positions = positions_of(run.results, book)

    console.print(risk_table(risk_by_underlying(book, positions, market)))
    console.print(
        f"{len(events):,} tasks, {len(book):,} trades in {run.seconds:.1f} s: "
        f"{len(events) / run.seconds:,.0f} tasks/s, {len(book) / run.seconds:,.0f} trades/s"
    )
    console.print(stage_table(stage_times(run.timeline)))

    # Only now, when no worker needs the processors: so this is what one process takes when it has one to itself.
    console.print("The whole book again, as one event in one process, without a grid ...")
    started = time.perf_counter()
    alone = positions_of([load_handler(FUNCTION)(event_for(book, market), None)], book)
    seconds = time.perf_counter() - started
    console.print(comparison(run.seconds, seconds))
    if options.profile is None:
        console.print(sharing(os.cpu_count() or 1))
    return verdict(positions, alone)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options `groups` and `profile`."""
    parser = argparse.ArgumentParser(description="Value a book of option trades on a grid.")
    parser.add_argument(
        "--groups",
        type=_at_least_one,
        default=GROUPS,
        help="number of tasks to cut the book into (default: %(default)s)",
    )
    parser.add_argument("--profile", help="path of the profile of a running grid; none is started then")
    return parser.parse_args(arguments)


@contextmanager
def grid_profile(profile: str | None, console: Console) -> Iterator[Profile | str]:
    """Yield the profile of a grid: of the running one if it is named, else of one that lives as long as the block."""
    if profile is not None:
        yield profile
        return
    home = Path(os.environ.get("HTCGRID_HOME", HERE.parents[1] / ".htcgrid"))
    console.print("Starting a grid on this machine")
    terminal = Terminal(console)
    try:
        with LocalGrid(
            home=home, agents=1, workers=WORKERS, function=FUNCTION, handler="handler.handler", progress=terminal
        ) as local:
            yield local.profile
    finally:
        terminal.abandon()  # else its spinner would turn on below an error


def run_on_grid(events: Sequence[Event], profile: Profile | str) -> GridRun:
    """Submit one task per event and wait for all results, with a progress bar."""
    # To the type checker the values of a TypedDict are objects, not JSON.
    tasks = cast("Sequence[JSON]", events)
    with Grid.connect(profile=profile) as grid:
        started = time.perf_counter()
        session = grid.submit(tasks)
        results = list(session.results(progress=True))
        seconds = time.perf_counter() - started
        return GridRun(results, list(session.timeline()), seconds)


def comparison(grid: float, alone: float) -> str:
    """Say which took fewer seconds, the grid or one process alone, and by how much."""
    took = f"The grid took {grid:.1f} s, one process alone {alone:.1f} s: "
    if f"{max(grid, alone) / min(grid, alone):.2f}" == "1.00":
        return f"{took}they were equally fast."
    if grid < alone:
        return f"{took}the grid was {alone / grid:.2f} times as fast."
    return f"{took}the process alone was {grid / alone:.2f} times as fast."


def sharing(processors: int) -> str:
    """Say what the figures of a grid on this machine cannot show."""
    return (
        f"(On this machine {WORKERS} workers, the agent and the emulated AWS share {processors} processor(s); "
        "the process alone had one to itself.)"
    )


def verdict(grid: Mapping[str, "Position"], alone: Mapping[str, "Position"]) -> int:
    """Say whether the two valuations are equal, on stderr if not, and return the exit code."""
    found = differences(grid, alone)
    if not found:
        print(f"All {len(alone):,} trades are exactly equal.")
        return 0
    print(f"FAILED: between the grid and one process, figures that differ: {len(found):,}", file=sys.stderr)
    for difference in found[:SHOWN_DIFFERENCES]:
        print(f"  {difference}", file=sys.stderr)
    if len(found) > SHOWN_DIFFERENCES:
        print(f"  and {len(found) - SHOWN_DIFFERENCES:,} more", file=sys.stderr)
    return 1


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (GridError, LocalGridError) as error:
        sys.exit(f"FAILED: {error}")
