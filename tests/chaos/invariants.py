"""The ten invariants of the design, each checked by itself on what a run left behind: see docs/chaos.md."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from htcgrid import FinishedTask, TaskFailed
from htcgrid_controlplane.rules.accounting import total_of
from htcgrid_events import BUCKET_SIZE, Attempt, FailureKind
from tests.chaos.chaos_grid import ChaosGrid, until
from tests.chaos.sessions import KILLED, Run, letter

_IDLE_SECONDS = 3.0
_IDLE_TRIES = 4
_LONG_POLLS = frozenset({"AmazonSQS ReceiveMessage"})
_LETTERS_WITHIN = 30.0
_CLAIMS_TO_SPARE = 5


@dataclass(frozen=True)
class Evidence:
    """A grid at rest, and what its users were told."""

    grid: ChaosGrid
    runs: Sequence[Run]
    requests: Counter[str]
    """Requests to AWS during the run, by service and operation."""
    bus_events: Sequence[dict[str, Any]]

    @property
    def acknowledged(self) -> list[Run]:
        """The sessions that the grid took over."""
        return [run for run in self.runs if run.acknowledged]

    @property
    def begun(self) -> list[Run]:
        """Those, and the sessions of which it took a part over."""
        return [run for run in self.runs if run.acknowledged or run.refused]

    @property
    def ended(self) -> list[Run]:
        """Those of which the user was told the verdict and every task."""
        return [run for run in self.acknowledged if run.verdicts and run.error is None]

    def announced(self, run: Run) -> list[dict[str, Any]]:
        """The verdicts of a session that the bus was told of."""
        ended = {"Session Completed", "Session Failed", "Session Cancelled", "Session TimedOut"}
        return [
            event["detail"]
            for event in self.bus_events
            if event["detail-type"] in ended and event["detail"]["session_id"] == run.session_id
        ]


Invariant = Callable[[Evidence], Iterator[str]]


def nothing_is_lost(evidence: Evidence) -> Iterator[str]:
    """1: a session whose submission was acknowledged reaches a verdict, and its user is told of every task."""
    for run in evidence.runs:
        if run.error is not None:
            yield f"{_name(run)}: {type(run.error).__name__}: {run.error}"
        elif run.refused:
            continue
        elif not run.acknowledged:
            yield f"{_name(run)}: was never acknowledged"
        elif not run.verdicts:
            yield f"{_name(run)}: has no verdict"
    for run in evidence.begun:
        session = evidence.grid.session(run.session_id)
        if not session.state.ended:
            states = Counter(row.state.value for row in evidence.grid.rows(run.session_id))
            counted = [len(account.finished) for account in evidence.grid.bucket_accounts(run.session_id)]
            yield (
                f"{_name(run)}: is still {session.state}, its chunks are {dict(states)}, {counted} of its buckets "
                f"are counted and {sorted(session.full_buckets)} are full, totals {session.totals}, "
                f"reason to end {session.end_reason}, {'a' if session.task_token else 'no'} task token"
            )


def tasks_have_one_outcome(evidence: Evidence) -> Iterator[str]:
    """2: every task has one outcome; what its user was given is what its row says and what it had to yield."""
    for run in evidence.ended:
        indexes = Counter(task.index for task in run.received)
        if sorted(indexes.elements()) != list(range(len(run.plan.tasks))):
            count = f"{len(indexes)} of {len(run.plan.tasks)} tasks"
            yield f"{_name(run)}: its user was told of {count}, most often of {indexes.most_common(3)}"
            continue
        told = {task.index: letter(task) for task in run.received}
        for row in evidence.grid.rows(run.session_id):
            mine = "".join(told[index] for index in range(row.first_task, row.first_task + row.size))
            if mine != row.outcomes or not row.finished:
                yield f"{_name(run)}: chunk {row.key.chunk} is {row.state} {row.outcomes}, its user was told {mine}"
        for task in run.received:
            if letter(task) == "C" and task.result != run.plan.tasks[task.index].value:
                yield f"{_name(run)}: task {task.index} has the result of another"


def counting_is_exact(evidence: Evidence) -> Iterator[str]:
    """3: the account of the verdict is what the buckets counted, what the rows say and what the user was given."""
    for run in evidence.ended:
        session, rows = evidence.grid.session(run.session_id), evidence.grid.rows(run.session_id)
        verdict = session.account
        buckets = total_of(evidence.grid.bucket_accounts(run.session_id))
        counts = [
            ("the verdict", verdict and (verdict.completed, verdict.failed, verdict.cancelled)),
            ("the buckets", (buckets.completed, buckets.failed, buckets.cancelled)),
            ("the rows", _letters("".join(row.outcomes for row in rows))),
            ("the user", _letters("".join(letter(task) for task in run.received))),
        ]
        if len({count for _, count in counts}) != 1:
            yield f"{_name(run)}: completed, failed, cancelled are {', '.join(f'{c} for {who}' for who, c in counts)}"


def accounts_close(evidence: Evidence) -> Iterator[str]:
    """4: at every verdict, submitted = completed + failed + cancelled = the tasks of the session; and a tenant is
    counted what its open sessions are, so nothing when all have ended."""
    for run in evidence.ended:
        for status in run.verdicts:
            if not status.account.closes or status.account.submitted != len(run.plan.tasks):
                yield f"{_name(run)}: {status.account} of {len(run.plan.tasks)} tasks, {status.state}"
    for event in evidence.bus_events:
        if event["detail-type"] == "Account Mismatch":
            yield f"an account had to be counted anew: {event['detail']}"
    for tenant, counted, noted in evidence.grid.tenant_counts():
        if counted != noted:
            yield f"{tenant} is counted {counted} open sessions and tasks, its sessions say {noted}"


def failures_are_failures(evidence: Evidence) -> Iterator[str]:
    """5: a task that fails never completes, one that is well never fails, and the user is told how it failed."""
    for run in evidence.ended:
        redriven = len(run.verdicts) > 1
        for task in run.received:
            planned = run.plan.tasks[task.index]
            if letter(task) not in planned.may:
                yield f"{_name(run)}: task {task.index} ({planned.event['do']}) is {letter(task)}: {task.error}"
            error = task.error
            if not isinstance(error, TaskFailed):
                continue
            if error.kind not in planned.kinds:
                yield f"{_name(run)}: task {task.index} failed as {error.kind}: {error.type}: {error.message}"
            if error.kind == FailureKind.HANDLER and not (
                error.type == "UnknownCurve" and error.message == _readable(planned.value) and error.trace
            ):
                yield f"{_name(run)}: task {task.index} says of its error only {error.type}: {error.message}"
            if not redriven and error.attempts > run.plan.options["max_retries"] + 1:
                yield f"{_name(run)}: task {task.index} was tried {error.attempts} times"


def poison_is_isolated(evidence: Evidence) -> Iterator[str]:
    """6: a task that kills its agents fails; those beside it fail only if they were killed themselves."""
    for run in evidence.ended:
        if run.kind != "poison":
            continue
        for task in run.received:
            does = run.plan.tasks[task.index].event["do"]
            failed_so = isinstance(task.error, TaskFailed) and task.error.kind in KILLED
            if (does == "kill-agent" and not failed_so) or not (letter(task) == "C" or failed_so):
                yield f"{_name(run)}: task {task.index} ({does}) is {letter(task)}: {task.error}"


def nothing_is_polled(evidence: Evidence) -> Iterator[str]:
    """7: no table is scanned, and a grid at rest asks for nothing but messages, by long polls."""
    scans = {name: count for name, count in evidence.requests.items() if name.endswith(" Scan")}
    if scans:
        yield f"tables were scanned: {scans}"
    asked: Counter[str] = Counter()
    for _ in range(_IDLE_TRIES):  # One of them may meet the workflow that runs once a minute, or an agent's last words.
        before = Counter(evidence.grid.requests())
        time.sleep(_IDLE_SECONDS)
        asked = Counter(evidence.grid.requests()) - before
        if asked.keys() <= _LONG_POLLS:
            return
    yield f"at rest the grid asked within {_IDLE_SECONDS} s for {dict(asked)}"


def no_key_is_hot(evidence: Evidence) -> Iterator[str]:
    """8: the chunks of a session are spread over partition keys."""
    for run in evidence.acknowledged:
        keys = Counter(row.key.partition_key for row in evidence.grid.rows(run.session_id))
        if any(count > BUCKET_SIZE for count in keys.values()):
            yield f"{_name(run)}: {keys.most_common(1)} of its chunks under one partition key"


def retries_wait(evidence: Evidence) -> Iterator[str]:
    """9: what is tried again has waited, as its history tells, and no chunk is claimed over and over."""
    waits: list[float] = []
    for run in evidence.ended:
        if run.kind == "failing":
            for task in run.received:
                waits += _waits(task)
        session = evidence.grid.session(run.session_id)
        seconds = ((session.ended_at or 0) - session.created_at) / 1000
        for row in evidence.grid.rows(run.session_id):
            if row.attempt > seconds + _CLAIMS_TO_SPARE:
                yield f"{_name(run)}: chunk {row.key.chunk} was claimed {row.attempt} times within {seconds:.0f} s"
    if any(wait < 0 for wait in waits):
        yield f"a task was tried again before its former try had ended: {min(waits):.3f} s"
    # Uniform between 0 and 1 s before the first retry and 2 s before the second, so 0.75 s on average.
    if len(waits) >= 10 and sum(waits) / len(waits) < 0.25:
        yield f"tasks were tried again after {sum(waits) / len(waits):.3f} s on average"


def verdicts_are_announced_once(evidence: Evidence) -> Iterator[str]:
    """10: whatever is started or sent twice, there is one verdict, and one more for each time that a session reopened;
    nothing is left over."""
    for run in evidence.ended:
        session = evidence.grid.session(run.session_id)
        announced = {(each["ended_at"], each["state"]) for each in evidence.announced(run)}
        if len(announced) < len({status.ended_at for status in run.verdicts}) or (
            len(announced) > 1 and not session.redrives
        ):
            yield f"{_name(run)}: was announced as {sorted(announced)}, its user was told {run.verdicts}"
        last = run.verdicts[-1]
        if (last.ended_at, last.state, last.account) != (session.ended_at, session.state, session.account):
            yield f"{_name(run)}: its user was told {last}, its row says {session.state} {session.account}"
    grid = evidence.grid
    for url in (*grid.task_queues, grid.events_queue, *grid.dead_letter_queues):
        if left := grid.messages(url):
            yield f"{left} messages are left in {url.rpartition('/')[2]}"


def failures_are_kept(evidence: Evidence) -> Iterator[str]:
    """6: tasks that failed for good lie among the dead letters of their sessions."""
    from htcgrid import Grid

    with Grid.connect(evidence.grid.local.profile) as grid:
        for run in evidence.ended:
            # What is counted by the one who stops a session is told to nobody but its user.
            if evidence.grid.session(run.session_id).stop_reason is not None:
                continue
            session = grid.attach(run.session_id)
            failed = {task.index for task in run.received if letter(task) == "F"}

            def kept(session: Any = session) -> set[int]:
                return {index for found in session.dead_letters() for index in found.tasks}

            if not until(lambda kept=kept, failed=failed: kept() == failed, _LETTERS_WITHIN):  # type: ignore[misc]
                yield f"{_name(run)}: tasks {sorted(failed)} failed, the dead letters tell of {sorted(kept())}"


INVARIANTS: tuple[tuple[int, Invariant], ...] = (
    (1, nothing_is_lost),
    (2, tasks_have_one_outcome),
    (3, counting_is_exact),
    (4, accounts_close),
    (5, failures_are_failures),
    (6, poison_is_isolated),
    (6, failures_are_kept),
    (7, nothing_is_polled),
    (8, no_key_is_hot),
    (9, retries_wait),
    (10, verdicts_are_announced_once),
)


def broken(evidence: Evidence) -> list[str]:
    """Every invariant that does not hold, by its number and name, with what breaks it."""
    return [
        f"{number} {check.__name__.replace('_', ' ')}: {what}"
        for number, check in INVARIANTS
        for what in check(evidence)
    ]


def _name(run: Run) -> str:
    return f"session {run.session_id} ({run.kind})"


def _readable(text: Any) -> Any:
    """A text as the grid reports it: what UTF-8 cannot say is escaped."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


def _letters(outcomes: str) -> tuple[int, int, int]:
    return outcomes.count("C"), outcomes.count("F"), outcomes.count("X")


def _waits(task: FinishedTask) -> list[float]:
    """Seconds between the tries of a task that failed for good. Those that follow a death wait for a lease as well."""
    if not isinstance(task.error, TaskFailed):
        return []
    tries: Sequence[Attempt] = task.error.history
    return [
        (after.started_at - before.ended_at) / 1000
        for before, after in pairwise(tries)
        if before.kind is FailureKind.HANDLER
    ]
