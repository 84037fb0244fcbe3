"""What runs while a grid is disturbed: sessions of every kind, each with what may become of each of its tasks."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agent.tests.proxy import network

from htcgrid import (
    JSON,
    FinishedTask,
    Grid,
    GridError,
    GridUnavailable,
    GridUnreachable,
    Profile,
    RequestRejected,
    Session,
    SessionCancelled,
    SessionStatus,
    SessionTimedOut,
    SubmitOptions,
    TaskFailed,
)
from htcgrid_events import BUCKET_SIZE, FailureKind, new_id

T = TypeVar("T")

WELL = "C"
"""The letters (of `OutcomeCode`) that a task may end with: this one is run again as often as agents and workers die."""
FEW_TRIES = "CF"
"""A task that is well, with few retries: it may fail, if agents or workers die over it, and for no other reason."""
BAD = "F"
KILLED = frozenset({FailureKind.CRASH, FailureKind.LOST})
"""How a task fails whose worker or agent was killed."""
_MANY = 20
_REPEAT_SECONDS = 0.5


@dataclass(frozen=True)
class Task:
    """A task, and what may become of it."""

    event: dict[str, Any]
    may: str = WELL
    kinds: frozenset[FailureKind] = KILLED
    """How it may fail, if it may."""

    @property
    def value(self) -> Any:
        """What it yields if it completes."""
        return self.event["value"]


@dataclass(frozen=True)
class Plan:
    """A session: what it is made of, and what its user does with it besides waiting."""

    tasks: Sequence[Task]
    options: SubmitOptions
    chunk_size: int | None = None
    interrupted: bool = False
    """Whether its submission breaks off and is repeated."""
    slow_seconds: float = 0.0
    """For how long its source waits before each task."""
    may_be_refused: bool = False
    """Whether its time may be over before all of its tasks have been submitted."""
    meanwhile: Callable[[Session], None] = lambda session: None
    afterwards: Callable[[Session], bool] = lambda session: False
    """Done after its verdict; gives whether it was reopened, so that there is another."""


@dataclass
class Run:
    """A session under way, and what its user has been told."""

    kind: str
    plan: Plan
    session_id: str = field(default_factory=new_id)
    acknowledged: bool = False
    refused: bool = False
    """Whether the grid took no more of its tasks, and its user knows."""
    received: list[FinishedTask] = field(default_factory=list)
    """The tasks in the order in which they came, after the last verdict."""
    verdicts: list[SessionStatus] = field(default_factory=list)
    error: Exception | None = None
    """What kept the user from the end of the session."""

    def live(self, grid: Grid, profile: Profile, deadline: float) -> None:
        """Submit, follow and end it, repeating as often as a user would; until `deadline` (monotonic)."""
        try:
            if self.plan.interrupted:
                self._break_off(profile, deadline)
            session = self._submit(grid, deadline)
            self.acknowledged = True
            persist(lambda: self.plan.meanwhile(session), deadline)
            self._follow(session, deadline)
            if self.plan.afterwards(session):
                self._follow(grid.attach(self.session_id), deadline)
        except RequestRejected as error:
            self.refused = self.plan.may_be_refused and not self.acknowledged
            self.error = None if self.refused else error
        except Exception as error:  # noqa: BLE001 - judged with the invariants, like all that went wrong
            self.error = error

    def _submit(self, grid: Grid, deadline: float) -> Session:
        def submit() -> Session:
            return grid.submit(
                self._events(), chunk_size=self.plan.chunk_size, session_id=self.session_id, **self.plan.options
            )

        return persist(submit, deadline)

    def _events(self) -> Iterable[JSON]:
        if not self.plan.slow_seconds:
            return [task.event for task in self.plan.tasks]

        def slowly() -> Iterator[JSON]:
            for task in self.plan.tasks:
                time.sleep(self.plan.slow_seconds)
                yield task.event

        return slowly()

    def _break_off(self, profile: Profile, deadline: float) -> None:
        """Lose the way to the grid in the middle of a submission."""
        endpoint = str(profile.aws_endpoint_url)
        with network(endpoint) as net:
            through = profile.model_copy(update={"api_url": profile.api_url.replace(endpoint, net.url)})

            def events() -> Iterator[JSON]:
                for number, task in enumerate(self.plan.tasks):
                    if number == len(self.plan.tasks) // 2:
                        net.cut()
                    yield task.event

            with persist(lambda: Grid.connect(through, request_timeout=1), deadline) as other:
                try:
                    other.submit(
                        events(), chunk_size=self.plan.chunk_size, session_id=self.session_id, **self.plan.options
                    )
                except (GridUnreachable, GridUnavailable):
                    return
            raise AssertionError("a submission without a network was acknowledged")

    def _follow(self, session: Session, deadline: float) -> None:
        def follow() -> list[FinishedTask]:
            return list(session.as_completed(timeout=max(0.0, deadline - time.monotonic())))

        self.received = persist(follow, deadline)
        self.verdicts.append(persist(lambda: session.wait(timeout=max(0.0, deadline - time.monotonic())), deadline))


def letter(task: FinishedTask) -> str:
    """What became of a task, as its user sees it: a letter of `OutcomeCode`, or a question mark."""
    match task.error:
        case None:
            return "C"
        case TaskFailed():
            return "F"
        case SessionCancelled() | SessionTimedOut():
            return "X"
        case _:
            return "?"


def persist(call: Callable[[], T], deadline: float) -> T:
    """Repeat a call that failed because the grid could not be asked, until `deadline` (monotonic)."""
    while True:
        try:
            return call()
        except GridError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
            time.sleep(_REPEAT_SECONDS)


# --- the kinds of sessions ---


def _echo(value: object, **more: Any) -> Task:
    return Task({"do": "echo", "value": value}, **more)


def _sleep(value: object, seconds: float, **more: Any) -> Task:
    return Task({"do": "sleep", "seconds": seconds, "value": value}, **more)


def _bad(do: str, value: object, *kinds: FailureKind) -> Task:
    return Task({"do": do, "value": value}, BAD, KILLED | frozenset(kinds))


def many(rng: random.Random) -> Plan:
    """More chunks than a bucket has, of one tiny task each."""
    count = BUCKET_SIZE + rng.randint(2, 20)
    return Plan([_echo(number) for number in range(count)], {"max_retries": _MANY}, chunk_size=1)


def chunks(rng: random.Random) -> Plan:
    """Tiny tasks in chunks that the connector chooses."""
    return Plan([_echo(number) for number in range(rng.randint(300, 900))], {"max_retries": _MANY})


def slow(rng: random.Random) -> Plan:
    """Tasks that run for half a lease and longer, so that leases are renewed and lost."""
    tasks = [_sleep(number, rng.uniform(1, 4)) for number in range(6)]
    return Plan(tasks, {"max_retries": _MANY, "retry_base": 0.5, "retry_cap": 2}, chunk_size=rng.choice([1, 2]))


def failing(rng: random.Random) -> Plan:
    """Some tasks always fail, and are retried in between."""
    tasks = [
        _bad("raise", f"no curve {number}", FailureKind.HANDLER) if rng.random() < 0.4 else _echo(number, may=FEW_TRIES)
        for number in range(20)
    ]
    return Plan(tasks, {"max_retries": 2, "retry_base": 1.0, "publish_completions": True}, chunk_size=4)


def exiting(rng: random.Random) -> Plan:
    """Some tasks end their runtimes."""
    tasks = [_bad("exit", number) if number == 2 else _echo(number, may=FEW_TRIES) for number in range(5)]
    return Plan(tasks, {"max_retries": 1, "retry_base": 0.5}, chunk_size=rng.choice([1, 5]))


def signalled(rng: random.Random) -> Plan:
    """Tasks whose runtimes end by signals that have no name, or with exit codes that look like them."""
    deaths = [{"do": "signal", "number": 35}, {"do": "signal", "number": 64}, {"do": "exit", "code": 163}]
    tasks = [Task({**death, "value": number}, BAD) for number, death in enumerate(deaths)]
    return Plan([*tasks, _echo(len(tasks), may=FEW_TRIES)], {"max_retries": 1, "retry_base": 0.5}, chunk_size=1)


def worded(rng: random.Random) -> Plan:
    """Tasks fail with texts from every plane of Unicode, and with what is not a character at all."""
    texts = [f"bad {_character(plane, rng)}" for plane in range(17)] + [f"bad {odd}" for odd in _ODD]
    tasks = [_bad("raise", text, FailureKind.HANDLER) for text in texts]
    return Plan(tasks, {"max_retries": 1, "retry_base": 0.3}, chunk_size=rng.choice([1, 4]))


def trickled(rng: random.Random) -> Plan:
    """Tasks come one by one from a slow source while results are read."""
    return Plan([_echo(number) for number in range(20)], {"max_retries": _MANY}, chunk_size=1, slow_seconds=0.3)


_ODD = ("\x00", "\x1b[31m", "\x7f", "\ud800", "\udfff", "\ufffe", "\uffff", "\ufdd0", "\u202e")
"""Characters that JSON, XML, terminals or encodings do not take."""


def _character(plane: int, rng: random.Random) -> str:
    """A character of a plane, its last one (which is no character) included."""
    offset = rng.choice([rng.randrange(0xD800), 0xFFFD, 0xFFFF])
    return chr(plane * 0x10000 + offset)


def overlong(rng: random.Random) -> Plan:
    """A task runs longer than it may."""
    tasks = [Task({"do": "sleep", "seconds": 600, "value": 0}, BAD, KILLED | {FailureKind.TIMEOUT})]
    return Plan([*tasks, _echo(1, may=FEW_TRIES)], {"max_retries": 1, "retry_base": 0.5, "task_timeout": 1})


def poison(rng: random.Random) -> Plan:
    """A task kills every agent that runs it."""
    culprit = rng.randrange(5)
    tasks = [_bad("kill-agent", n) if n == culprit else _echo(n, may=FEW_TRIES) for n in range(5)]
    return Plan(tasks, {"max_retries": 1, "retry_base": 0.5}, chunk_size=5)


def budget(rng: random.Random) -> Plan:
    """So many tasks fail that the session stops."""
    tasks = [
        Task({"do": "raise", "value": f"no curve {number}"}, "FX", KILLED | {FailureKind.HANDLER})
        for number in range(60)
    ]
    return Plan(tasks, {"max_retries": 0, "max_failures": 3}, chunk_size=1)


def cancelled(rng: random.Random) -> Plan:
    """Cancelled in the middle."""
    return Plan(
        [_sleep(number, 0.5, may="CX") for number in range(30)],
        {"max_retries": _MANY},
        chunk_size=1,
        meanwhile=_after(rng.uniform(0, 3), lambda session: session.cancel()),
    )


def overdue(rng: random.Random) -> Plan:
    """Past its deadline before it is done."""
    tasks = [_sleep(0, 600, may="X"), _echo(1, may="CX")]
    options: SubmitOptions = {"max_retries": _MANY, "timeout": rng.randint(4, 8)}
    return Plan(tasks, options, chunk_size=1, may_be_refused=True)


def paused(rng: random.Random) -> Plan:
    """Paused for a while, and resumed."""

    def hold(session: Session) -> None:
        try:
            session.pause()
            time.sleep(2)
            session.resume()
        except RequestRejected:
            return  # It has its verdict already.

    return Plan(
        [_sleep(number, 0.2) for number in range(24)],
        {"max_retries": _MANY, "retry_base": 0.5, "retry_cap": 2},
        chunk_size=1,
        meanwhile=_after(rng.uniform(0.2, 2), hold),
    )


def redriven(rng: random.Random) -> Plan:
    """Fails, and is redriven with events that are better."""
    count = 12
    tasks = [Task({"do": "raise", "value": number}, FEW_TRIES) for number in range(count)]

    def redrive(session: Session) -> bool:
        deadline = time.monotonic() + 60
        events: dict[int, JSON] = {number: {"do": "echo", "value": number} for number in range(count)}
        while persist(lambda: _letters(session), deadline) < count:
            if time.monotonic() > deadline:
                raise AssertionError("the dead letters of a failed session did not come")
            time.sleep(0.2)
        while persist(lambda: session.redrive(events=events), deadline) or persist(lambda: _letters(session), deadline):
            time.sleep(0.2)
            if time.monotonic() > deadline:
                raise AssertionError("the dead letters of a session could not be redriven")
        return True

    return Plan(tasks, {"max_retries": 1, "retry_base": 0.3}, chunk_size=3, afterwards=redrive)


def large(rng: random.Random) -> Plan:
    """Payloads that take the data plane, in and out."""
    texts = ["".join(rng.choices("0123456789abcdef", k=300_000)) for _ in range(3)]
    return Plan([_echo(text) for text in texts], {"max_retries": _MANY}, chunk_size=2)


def streamed(rng: random.Random) -> Plan:
    """Its submission breaks off in the middle and is repeated."""
    return Plan(
        [_echo(number) for number in range(200)],
        {"max_retries": _MANY},
        chunk_size=rng.choice([1, 7]),
        interrupted=True,
    )


KINDS: dict[str, Callable[[random.Random], Plan]] = {
    kind.__name__: kind
    for kind in (
        many, chunks, slow, failing, exiting, overlong, poison, budget, cancelled, overdue, paused, redriven, large,
        streamed, signalled, worded, trickled,
    )
}  # fmt: skip


def _letters(session: Session) -> int:
    return sum(len(found.tasks) for found in session.dead_letters())


def _after(seconds: float, act: Callable[[Session], object]) -> Callable[[Session], None]:
    def wait_and_act(session: Session) -> None:
        time.sleep(seconds)
        act(session)

    return wait_and_act


def start(kind: str, plan: Plan, grid: Grid, profile: Profile, deadline: float) -> tuple[Run, threading.Thread]:
    """Let a user of a session live in a thread of its own."""
    run = Run(kind, plan)
    thread = threading.Thread(
        target=run.live, args=(grid, profile, deadline), name=f"{kind} {run.session_id}", daemon=True
    )
    thread.start()
    return run, thread
