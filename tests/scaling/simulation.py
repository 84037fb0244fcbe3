"""Simulates a partition: its queue, its agents, KEDA with the Horizontal Pod Autoscaler, and the scaling function.

Time goes in steps of five seconds. What is taken from the real parts is the rule itself and the numbers below; what a
step simplifies: an agent shares its workers among the chunks that it holds without a loss, neither queues nor metrics
are approximate, and an agent that must go finishes what it holds, as the chart's grace period lets it.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from htcgrid_controlplane.rules.scaling import Demand, Messages, Pool, Work, WorkedMinute, demand
from tests.scaling.workloads import Burst, Chunk

STEP = 5
"""Seconds, which is also how often KEDA looks."""
WORKERS = 4
TARGET = 60
MOST_AGENTS = 100
START_SECONDS = 45
"""From the wish for an agent to its first chunk: a node and a pod."""
METRIC_SECONDS = 15
"""From the run of the scaling function to where KEDA reads the metric."""
SYNC_SECONDS = 15
"""How often the autoscaler looks ("Horizontal Pod Autoscaling", Kubernetes)."""
SCALE_IN_AFTER = 300
"""For how long fewer agents must have been enough, as in the chart's values."""
SCALE_IN_SHARE = 0.5
"""Of the agents, at most so many go in a minute, as in the chart's values."""
_MINUTES = 15

Formula = Callable[[Messages, Demand | None], float]
"""Agents by the queue as it is now and what the scaling function last told."""


def by_waiting(now: Messages, told: Demand | None) -> float:
    """A worker for each message that waits: the queue as it looks at first sight."""
    return now.waiting / WORKERS


def by_length(now: Messages, told: Demand | None) -> float:
    """A worker for each message, whether it waits or is held."""
    return now.total / WORKERS


def by_work(now: Messages, told: Demand | None) -> float:
    """The formula of docs/scaling.md."""
    if told is None or told.agents_per_chunk is None:
        return by_length(now, told)
    return max(now.total * told.agents_per_chunk, min(told.agents, now.total))


@dataclass(eq=False)
class Agent:
    """A pod, from when it is wanted."""

    ready_at: int
    held: list[Chunk] = field(default_factory=list)
    leaves: bool = False
    """Whether it takes no more chunks."""

    def ready(self, now: int) -> bool:
        """Whether it has started."""
        return now >= self.ready_at


@dataclass
class Outcome:
    """What became of a workload."""

    agents: list[tuple[int, int]] = field(default_factory=list)
    """How many there were, each time that it changed: seconds, agents."""
    took: list[int] = field(default_factory=list)
    """How long each burst took from its arrival to its last chunk, in seconds."""
    agent_seconds: int = 0
    """For which agents were paid, the time to start included."""
    busy_removed: int = 0
    """Agents that were told to go while they ran something."""

    @property
    def most_agents(self) -> int:
        """How many there were at a time."""
        return max(agents for _, agents in self.agents)


class Simulation:
    """One workload with one formula."""

    def __init__(self, bursts: Sequence[Burst], formula: Formula, *, idle_first: bool = False, seed: int = 1) -> None:
        """`idle_first`: agents that run nothing are chosen first to go, as by a deletion cost; else any."""
        self._idle_first = idle_first
        self._bursts = deque(sorted(bursts, key=lambda burst: burst.at))
        self._open: list[tuple[int, set[Chunk]]] = []
        self._formula = formula
        self._random = random.Random(seed)
        self._queue: deque[Chunk] = deque()
        self._agents: list[Agent] = []
        self._leaving: list[Agent] = []
        self._wishes: deque[tuple[int, int]] = deque()
        self._told: deque[tuple[int, Demand]] = deque()
        self._demand: Demand | None = None
        self._work = Work()
        self._seen: list[WorkedMinute] = []
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Until everything has ended and all agents are gone."""
        now = 0
        while self._bursts or self._open or self._agents or self._leaving:
            self._arrive(now)
            if now % TARGET == 0:
                self._publish(now)
            if now % SYNC_SECONDS == 0:
                self._scale(now)
            for agent in [*self._agents, *self._leaving]:
                if agent.ready(now):
                    self._work_on(agent, now)
            self._leaving = [agent for agent in self._leaving if agent.held]
            self.outcome.agent_seconds += STEP * (len(self._agents) + len(self._leaving))
            now += STEP
        return self.outcome

    # --- queue and agents ---

    @property
    def _messages(self) -> Messages:
        held = sum(len(agent.held) for agent in [*self._agents, *self._leaving])
        return Messages(len(self._queue), held)

    def _arrive(self, now: int) -> None:
        while self._bursts and self._bursts[0].at <= now:
            made = list(self._bursts.popleft().made())
            self._queue.extend(made)
            self._open.append((now, set(made)))

    def _work_on(self, agent: Agent, now: int) -> None:
        budget = float(WORKERS * STEP)
        for chunk in self._chunks_of(agent):
            done = min(budget, chunk.left, min(chunk.tasks, WORKERS) * STEP)
            chunk.left -= done
            budget -= done
            if chunk.left < 1e-9:
                agent.held.remove(chunk)
                self._ended(chunk, now + STEP)
            if budget < 1e-9:
                break

    def _chunks_of(self, agent: Agent) -> Iterator[Chunk]:
        """What it holds, and then what it takes, for as long as somebody asks."""
        yield from list(agent.held)
        while self._queue and not agent.leaves and len(agent.held) < WORKERS:
            agent.held.append(self._queue.popleft())
            yield agent.held[-1]

    def _ended(self, chunk: Chunk, at: int) -> None:
        self._work += Work(1, chunk.tasks, int(chunk.tasks * chunk.seconds * 1_000_000))
        for place, (since, members) in enumerate(self._open):
            if chunk in members:
                members.remove(chunk)
                if not members:
                    self.outcome.took.append(at - since)
                    del self._open[place]
                return

    # --- the scaling function ---

    def _publish(self, now: int) -> None:
        minute, messages = now // 60, self._messages
        if self._work.attempts:
            self._note(minute - 1, work=self._work)
            self._work = Work()
        pool = Pool(WORKERS, timedelta(seconds=TARGET))
        self._told.append((now + METRIC_SECONDS, demand(messages, self._seen[:_MINUTES], minute, pool)))
        if messages.in_flight:
            self._note(minute, in_flight=messages.in_flight)

    def _note(self, minute: int, work: Work = Work(), in_flight: int = 0) -> None:  # noqa: B008 - a value
        if self._seen and self._seen[0].minute == minute:
            old = self._seen.pop(0)
            work, in_flight = old.work + work, old.in_flight + in_flight
        self._seen.insert(0, WorkedMinute(minute, work, in_flight))

    # --- KEDA and the autoscaler ---

    def _scale(self, now: int) -> None:
        while self._told and self._told[0][0] <= now:
            self._demand = self._told.popleft()[1]
        wish = min(MOST_AGENTS, math.ceil(self._formula(self._messages, self._demand) - 1e-9))
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - SCALE_IN_AFTER:
            self._wishes.popleft()
        have, stable = len(self._agents), max(each for _, each in self._wishes)
        if wish > have:
            self._agents += [Agent(now + START_SECONDS) for _ in range(wish - have)]
        elif stable < have and now % 60 == 0:
            least = have - max(1, math.floor(have * SCALE_IN_SHARE))
            self._remove(have - max(stable, least))
        if not self.outcome.agents or self.outcome.agents[-1][1] != len(self._agents):
            self.outcome.agents.append((now, len(self._agents)))

    def _remove(self, agents: int) -> None:
        chosen = self._random.sample(self._agents, len(self._agents))
        if self._idle_first:
            chosen.sort(key=lambda agent: len(agent.held))
        for agent in chosen[:agents]:
            self._agents.remove(agent)
            agent.leaves = True
            self._leaving.append(agent)
            self.outcome.busy_removed += bool(agent.held)
