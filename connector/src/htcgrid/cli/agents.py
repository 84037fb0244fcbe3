"""`htcgrid agents`: who works for you now.

The API knows agents by the chunks that they hold. Idle agents, and those that work for others, it does not show; where
agents are a deployment, that tells of them all.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import typer

from htcgrid.cli.output import moment, print_json, print_table, say
from htcgrid.cli.parameters import JsonOption, ProfileOption, connected


@dataclass
class _Work:
    sessions: set[str] = field(default_factory=set)
    chunks: int = 0
    tasks: int = 0
    since: int = 0
    """When it took over the chunk that it has held longest, in ms since the epoch."""


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("agents")(list_agents)


def list_agents(profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """List the agents that run your tasks now.

    Agents are known by the chunks that they hold: idle ones, and those that work for others, are not shown.
    """
    found: defaultdict[str, _Work] = defaultdict(_Work)
    with connected(profile) as grid:
        for state in ("OPEN", "RUNNING"):
            for summary in grid.sessions(state=state):
                for chunk in grid.attach(summary.session_id).chunks():
                    if chunk.state.value == "RUNNING" and chunk.owner:
                        work = found[chunk.owner]
                        work.sessions.add(summary.session_id)
                        work.chunks += 1
                        work.tasks += chunk.outcomes.count("Q")
                        work.since = min(work.since or chunk.stages.claimed_at, chunk.stages.claimed_at)
    if as_json:
        for name, work in sorted(found.items()):
            print_json({"agent": name, "sessions": sorted(work.sessions), "chunks": work.chunks, "tasks": work.tasks})
    elif found:
        rows = [
            (name, str(len(work.sessions)), str(work.chunks), str(work.tasks), moment(work.since))
            for name, work in sorted(found.items())
        ]
        print_table(("AGENT", "SESSIONS", "CHUNKS", "TASKS", "SINCE"), rows, right=(1, 2, 3))
    else:
        say("No agent runs a task of yours now.")
