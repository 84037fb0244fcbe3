"""How many agents a partition wants: its outstanding work over a target time. Pure functions.

    seconds of a chunk   tasks of a chunk * seconds of a task, as ended attempts tell
    outstanding          messages * seconds of a chunk; messages wait or are held by agents, of all priorities
    agents               outstanding / (target * workers of an agent), at least a worker for each chunk that is held,
                         and at most as many as the messages can keep busy

Short chunks end first, so ended attempts tell of these alone while long ones run. So chunks that agents have held for
minutes raise the estimate; and as these keep their workers, agents for what waits come on top. Where nothing has ended
yet, the length of the queues alone counts: a worker for each message.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

MINUTE = timedelta(minutes=1)
_HELD_PER_WORKER = 2
"""How many short chunks an agent may hold for each worker: the one that runs and the one that waits behind it."""

_LONGER = 2
"""How many times as long as ended chunks those must be that agents hold, to be taken for others."""


@dataclass(frozen=True)
class Messages:
    """How many messages are in queues, as SQS approximates it. Each names a chunk."""

    waiting: int = 0
    in_flight: int = 0
    """Held by agents."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.in_flight

    def __add__(self, other: "Messages") -> "Messages":
        return Messages(self.waiting + other.waiting, self.in_flight + other.in_flight)


@dataclass(frozen=True)
class Work:
    """What workers did."""

    attempts: int = 0
    """Attempts of chunks that ended."""
    tasks: int = 0
    """Tasks that ran in them."""
    worker_us: int = 0
    """How long workers were busy with these tasks together, in µs."""

    def __add__(self, other: "Work") -> "Work":
        return Work(self.attempts + other.attempts, self.tasks + other.tasks, self.worker_us + other.worker_us)


@dataclass(frozen=True)
class WorkedMinute:
    """What was seen of a partition in one minute."""

    minute: int
    """Since the epoch."""
    work: Work = Work()
    in_flight: int = 0
    """Messages that agents held when the partition was looked at in this minute."""


@dataclass(frozen=True)
class Pool:
    """The agents of a partition."""

    workers: int
    """Tasks that each agent runs at a time."""
    target: timedelta
    """Within which time the outstanding work is to be done."""


@dataclass(frozen=True)
class Demand:
    """What a partition wants."""

    messages: Messages
    agents: int
    outstanding: timedelta | None
    """The time for which its messages keep one worker busy; none while nothing is known."""
    agents_per_chunk: float | None
    """How many agents each further message is worth; none while nothing is known."""


def demand(messages: Messages, seen: Sequence[WorkedMinute], minute: int, pool: Pool) -> Demand:
    """What a partition wants in this minute, by what was `seen` of it in the last minutes with work, newest first."""
    work = sum((each.work for each in seen), Work())
    if not (work.attempts and work.tasks):
        by_length = math.ceil(messages.total / pool.workers)
        return Demand(messages, by_length, None if messages.total else timedelta(0), None)
    ended, held = max(1, work.worker_us) / 1e6 / work.attempts, _held_seconds(messages.in_flight, seen, minute)
    seconds = max(ended, held)
    # An agent runs the tasks of a chunk beside one another, and no chunk has more than one agent.
    at_most = min(1.0, work.tasks / work.attempts / pool.workers)
    share = min(at_most, seconds / (pool.target.total_seconds() * pool.workers))
    busy = math.ceil(messages.in_flight / pool.workers)
    if held > _LONGER * ended:
        agents = max(busy, math.ceil(messages.in_flight * share)) + math.ceil(messages.waiting * share)
    else:
        agents = max(busy, math.ceil(messages.total * share))
    return Demand(messages, agents, timedelta(seconds=messages.total * seconds), share)


def _held_seconds(in_flight: int, seen: Sequence[WorkedMinute], minute: int) -> float:
    """How long agents hold a chunk: what they held without a break, over the attempts that ended meanwhile.

    Over whichever of the last minutes gives most, since long chunks may come behind short ones.
    """
    longest, held, attempts, later = 0.0, 0.0, 0, in_flight
    expected = minute - 1
    for each in seen:
        if each.minute >= minute:
            continue
        if each.minute != expected or not (kept := min(later, each.in_flight)):
            break
        held += kept * MINUTE.total_seconds()
        attempts += each.work.attempts
        longest = max(longest, held / _HELD_PER_WORKER / max(1, attempts))
        later, expected = each.in_flight, expected - 1
    return longest
