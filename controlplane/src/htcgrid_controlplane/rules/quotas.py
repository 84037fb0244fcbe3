"""What a tenant may use of the grid, and whether a request goes beyond it. Pure values.

Two counters, of open sessions and of their tasks, go up when something is submitted and back when a session ends. Two
rates, of submissions and of bytes, need no way back: each is a moment up to which the tenant has used its share, which
every use moves on by its cost in time, and which may lie ahead of now by a burst at most (GCRA, a token bucket that is
one number).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from htcgrid_controlplane.errors import NotAllowed, QuotaExceeded
from htcgrid_events import MAX_TASKS, Priority, SessionOptions

SUBMISSION_BURST = timedelta(seconds=10)
"""A tenant that was idle may submit as much at once as its rate gives in this time."""
BYTES_BURST = timedelta(days=1)
_WAIT_FOR_AN_END = timedelta(seconds=10)
"""Nobody knows when a session of the tenant will end: long enough to cost little, short against most sessions."""
MAX_DATA = 10_000
"""Most pieces of shared data of one tenant: each time it puts one, the rows of all are read."""
_GIGABYTE = 10**9
_SECOND = 1_000_000
"""In microseconds, the unit of the moments."""


class TenantLimits(BaseModel):
    """The limits of one tenant; the template's parameters unless the tenant's row says otherwise."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    open_sessions: Annotated[int, Field(ge=1)]
    """Sessions without a verdict."""
    tasks: Annotated[int, Field(ge=1, le=MAX_TASKS)]
    """Tasks of open sessions together, finished ones included."""
    submissions_per_second: Annotated[int, Field(ge=1, le=10_000)]
    """Requests that create a session or add chunks, new or repeated, in the long run. To pause or resume a session
    counts as its submission anew: its chunks get messages again."""
    bytes_per_day: Annotated[int, Field(ge=1)]
    """Bytes of inputs and shared data, as they are announced: inside requests, and for upload."""
    data_gigabytes: Annotated[int, Field(ge=1, le=1_000_000)]
    """Shared data that is kept for it or being uploaded, in 10^9 bytes."""
    high_priority: bool
    """Whether sessions may have the priority `high`."""
    task_timeout_seconds: Annotated[int, Field(ge=1, le=43_200)]
    """Longest run of a task that a session may ask for."""


@dataclass(frozen=True)
class Usage:
    """What a tenant uses, as its row says."""

    open_sessions: int = 0
    tasks: int = 0
    submissions_until: int = 0
    """The moment (µs) up to which the share of submissions is used."""
    bytes_until: int = 0


@dataclass(frozen=True)
class Demand:
    """What one request asks for."""

    sessions: int = 0
    tasks: int = 0
    submissions: int = 0
    stored_bytes: int = 0
    options: SessionOptions | None = None
    """Of a new session."""


@dataclass(frozen=True)
class Share:
    """One rate, as a request sees it: the moment up to which it is used, by how much that moves, and how far ahead of
    now it may be; all in microseconds."""

    until: int
    cost: int
    burst: int

    def ahead(self, now: int) -> int:
        """By how much the moment lies ahead of now. One that no use can have reached was written by a clock that went
        wrong, and is not believed, or it would shut the tenant out until then."""
        ahead = self.until - now
        return ahead if 0 <= ahead <= self.burst + _SECOND else 0

    def wait(self, now: int) -> int:
        """How long the request has to wait, if at all."""
        return self.ahead(now) + self.cost - self.burst


def submissions_share(usage: Usage, demand: Demand, limits: TenantLimits) -> Share:
    """The rate of submissions. Nothing costs more than a burst, or it could never be had."""
    burst = int(SUBMISSION_BURST.total_seconds()) * _SECOND
    cost = min(demand.submissions * _SECOND // limits.submissions_per_second, burst)
    return Share(usage.submissions_until, cost, burst)


def bytes_share(usage: Usage, demand: Demand, limits: TenantLimits) -> Share:
    """The rate of bytes. Nothing is so small that it costs nothing."""
    burst = int(BYTES_BURST.total_seconds()) * _SECOND
    return Share(usage.bytes_until, -(-demand.stored_bytes * burst // limits.bytes_per_day), burst)


def _check_options(options: SessionOptions, limits: TenantLimits) -> None:
    if options.priority is Priority.HIGH and not limits.high_priority:
        raise NotAllowed("Your sessions may not have the priority high: use normal, or ask the grid's operator.")
    if options.task_timeout_seconds > limits.task_timeout_seconds:
        raise NotAllowed(
            f"Your tasks may run for {limits.task_timeout_seconds} seconds, not {options.task_timeout_seconds}: "
            "lower task_timeout, or ask the grid's operator."
        )


def check_data(size: int, kept: int, number: int, limits: TenantLimits) -> None:
    """See that a tenant may put shared data of `size` bytes, with which it keeps `kept` bytes in `number` pieces.

    Raises:
        QuotaExceeded: not now.
        NotAllowed: never, for this data alone is beyond the limit.
    """
    most = limits.data_gigabytes * _GIGABYTE
    if size > most:
        raise NotAllowed(f"The data has {size} bytes, and you may keep {most} bytes of shared data.")
    if kept > most:
        raise QuotaExceeded(
            f"You keep {kept - size} bytes of shared data: {size} more would be above your limit of {most}. Delete "
            "some, or wait until it expires.",
            _WAIT_FOR_AN_END,
        )
    if number > MAX_DATA:
        raise QuotaExceeded(
            f"You keep {MAX_DATA} pieces of shared data, which is the limit. Delete some.", _WAIT_FOR_AN_END
        )


def check_demand(usage: Usage, demand: Demand, limits: TenantLimits, now: int) -> None:
    """See that a tenant may use what a request asks for. `now` is in ms.

    Raises:
        QuotaExceeded: not now.
        NotAllowed: never, for the request alone is beyond the limits, or has options that the tenant may not have.
    """
    if demand.options is not None:
        _check_options(demand.options, limits)
    if demand.tasks > limits.tasks:
        raise NotAllowed(f"The request holds {demand.tasks} tasks, and your open sessions may hold {limits.tasks}.")
    if demand.stored_bytes > limits.bytes_per_day:
        raise NotAllowed(f"The request stores {demand.stored_bytes} bytes, and you may {limits.bytes_per_day} a day.")
    if demand.sessions and usage.open_sessions >= limits.open_sessions:
        raise QuotaExceeded(f"You have {usage.open_sessions} open sessions, which is your limit.", _WAIT_FOR_AN_END)
    if demand.tasks and usage.tasks + demand.tasks > limits.tasks:
        raise QuotaExceeded(
            f"Your open sessions hold {usage.tasks} tasks: {demand.tasks} more would be above your limit of "
            f"{limits.tasks}.",
            _WAIT_FOR_AN_END,
        )
    waits = {
        f"You submit more than {limits.submissions_per_second} requests a second.": submissions_share(
            usage, demand, limits
        ),
        f"You store more than {limits.bytes_per_day} bytes of inputs a day.": bytes_share(usage, demand, limits),
    }
    for what, share in waits.items():
        if share.cost and (wait := share.wait(now * 1000)) > 0:
            raise QuotaExceeded(what, timedelta(microseconds=wait))
