"""`python -m tests.chaos`: disturbs a grid of this machine as a seed says, and says whether its invariants held."""

import argparse
import random
import sys

from tests.chaos.chaos_grid import STORES
from tests.chaos.driver import Schedule, run
from tests.chaos.recovery import measure


def main() -> int:
    """Run once. The exit code is 1 if an invariant is broken."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run (default: a new one)")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long there are faults (default: 1)")
    parser.add_argument("--store", default="s3", choices=STORES, help="where large payloads lie (default: s3)")
    parser.add_argument(
        "--recovery", action="store_true", help="kill hosts only, and measure how soon all is well again"
    )
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    if arguments.recovery:
        print(f"seed {seed}", flush=True)  # noqa: T201 - a program's output
        figures = measure(seed, arguments.minutes * 60)
        print(figures)  # noqa: T201
        return 1 if figures.broken else 0
    schedule = Schedule.drawn(seed, arguments.minutes * 60, arguments.store)
    print(schedule, flush=True)  # noqa: T201
    report = run(schedule)
    print(report)  # noqa: T201
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
