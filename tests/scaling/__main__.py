"""`python -m tests.scaling`: writes the figures of docs/scaling.md and draws docs/scaling.svg."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from statistics import median

import matplotlib as mpl
import matplotlib.pyplot as plt

from tests.scaling.simulation import Outcome, Simulation, by_length, by_waiting, by_work
from tests.scaling.workloads import WORKLOADS

_DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = _DOCS / "scaling.md"
_BETWEEN = re.compile(r"(<!-- python -m tests\.scaling -->\n).*?(<!-- end -->)", re.DOTALL)
_FORMULAS = {"queue, waiting": by_waiting, "queue, all": by_length, "work": by_work}

Outcomes = Mapping[str, Mapping[str, Outcome]]
"""By workload and by what the pool was scaled by."""


def simulate() -> Outcomes:
    """All workloads in all ways."""
    return {
        name: {
            **{way: Simulation(bursts, formula).run() for way, formula in _FORMULAS.items()},
            "work, idle first": Simulation(bursts, by_work, idle_first=True).run(),
        }
        for name, bursts in WORKLOADS.items()
    }


def table(outcomes: Outcomes) -> str:
    """The figures as a table of Markdown."""
    return "".join(f"{line}\n" for line in _lines(outcomes))


def _lines(outcomes: Outcomes) -> Iterator[str]:
    yield "| workload | scaled by | most agents | a burst takes: median, longest | agent hours | busy agents removed |"
    yield "|---|---|---|---|---|---|"
    for workload, ways in outcomes.items():
        for way, each in ways.items():
            took = f"{median(each.took):,.0f} s, {max(each.took):,} s"
            hours = each.agent_seconds / 3600
            yield f"| {workload} | {way} | {each.most_agents} | {took} | {hours:.1f} | {each.busy_removed} |"


def written(page: str, figures: str) -> str:
    """The page with these figures."""
    return _BETWEEN.sub(lambda found: f"{found[1]}{figures}{found[2]}", page)


def draw(outcomes: Outcomes, file: Path) -> None:
    """Draw agents over time."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scaling"
    picture, places = plt.subplots(len(outcomes), figsize=(9, 2 * len(outcomes)), layout="constrained")
    for axes, (workload, ways) in zip(places, outcomes.items(), strict=True):
        for way in _FORMULAS:
            points = chain(ways[way].agents, [(ways[way].agents[-1][0] + 60, 0)])
            minutes, agents = zip(*((at / 60, count) for at, count in points), strict=True)
            axes.step(minutes, agents, where="post", label=way, linewidth=1.2)
        axes.set_title(workload, loc="left", fontsize="medium")
        axes.set_ylabel("agents")
        axes.set_ylim(bottom=0)
    places[0].legend(loc="upper right", fontsize="small")
    places[-1].set_xlabel("minutes")
    picture.savefig(file, metadata={"Date": None})
    plt.close(picture)


if __name__ == "__main__":
    simulated = simulate()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), table(simulated)), encoding="utf-8")
    draw(simulated, _DOCS / "scaling.svg")
