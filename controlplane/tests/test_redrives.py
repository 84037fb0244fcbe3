"""Redrives: whatever dies in between, and however often it is repeated, every task has one outcome and the account
closes again."""

from collections.abc import Callable
from typing import Any

import pytest
from controlplane.tests.test_dead_letters import fail, line, listed, record
from tests.support.control_plane_harness import TENANT, Harness, inputs
from tests.support.hostile import HOSTILE, MIB, at_most

from htcgrid_chunks.chunk import Payload
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import PAUSED_UNTIL
from htcgrid_controlplane.errors import AccountOpen, SessionClosed, SessionConflict, SessionNotFound
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.dead_letters import DeadLetterStore
from htcgrid_controlplane.storage.redrive import RedriveStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_dataplane import decode_lines, encode_lines, input_key, result_key
from htcgrid_events import (
    Account,
    AddChunks,
    DeadLettersDone,
    Priority,
    RedriveTasks,
    SessionState,
    TaskError,
    TaskState,
    Totals,
    new_id,
)


class Died(Exception):
    """What a process that dies says."""


def redrive(harness: Harness, session: Session, **selection: Any) -> DeadLettersDone:
    return harness.grid.redrives.redrive(TENANT, session.session_id, RedriveTasks(**selection))


def failed(harness: Harness, *chunks: str, **options: Any) -> Session:
    """A session of chunks that ended with these letters, with its verdict and its dead letters."""
    session = harness.create(*map(len, chunks), **options)
    for chunk, codes in enumerate(chunks):
        fail(harness, session, chunk, [line("KeyError") if code == "F" else b"" for code in codes])
        record(harness, session, chunk)
    ended = end(harness, session)
    assert ended.state.ended
    harness.messages()
    harness.events()
    return ended


def end(harness: Harness, session: Session, reason: EndReason = EndReason.DONE) -> Session:
    return harness.grid.lifecycle.end(session.session_id, reason)


def account(harness: Harness, session: Session) -> Account:
    return harness.grid.queries.status(harness.read(session)).account


def complete(harness: Harness, session: Session, chunk: int, codes: str) -> None:
    harness.record(session, harness.finish(session, {chunk: codes}))


def test_a_session_that_failed_is_run_again_and_completes(harness: Harness) -> None:
    session = failed(harness, "CF", "F", "C", session_timeout_seconds=60)
    harness.clock.advance(100_000)
    assert redrive(harness, session) == DeadLettersDone(tasks=2)
    again = harness.read(session)
    assert (again.state, again.account, again.ended_at) == (SessionState.RUNNING, None, None)
    assert again.deadline_at == harness.clock() + 60_000
    assert [name for name, _ in harness.events()] == ["Session Reopened"] * 1
    assert sorted(message.chunk for message in harness.messages()) == [0, 1]
    assert account(harness, session) == Account(submitted=4, completed=1)
    assert listed(harness, session) == []
    row = harness.row(session)
    assert (row.state, row.outcomes, row.attempt, row.tries) == (ChunkState.QUEUED, "CQ", 2, {})
    complete(harness, session, 0, "CC")
    assert harness.read(session).end_reason is None
    complete(harness, session, 1, "C")
    ended = end(harness, session)
    assert (ended.state, ended.account) == (SessionState.COMPLETED, Account(submitted=4, completed=4))


def test_what_is_left_open_goes_on_as_one_attempt_more_and_is_not_taken_for_dead(harness: Harness) -> None:
    session = failed(harness, "FF")
    redrive(harness, session)
    [lease] = harness.claim(session, 0)
    row = harness.row(session)
    assert (lease.attempt, row.died, row.open_offsets) == (3, 0, [0, 1])
    assert row.stages.finished_at == 0


@pytest.mark.parametrize("late", [1, 2])
def test_events_of_before_a_redrive_change_nothing_however_late(harness: Harness, late: int) -> None:
    session = failed(harness, "F", "C")
    [old] = [harness.row(session).outcome()]
    redrive(harness, session)
    harness.events()
    for _ in range(late):
        harness.record(session, [old, harness.row(session, 1).outcome()])
    assert account(harness, session) == Account(submitted=2, completed=1)
    assert harness.read(session).end_reason is None
    assert "Tasks Failed" not in [name for name, _ in harness.events()]
    new = harness.finish(session, {0: "C"})
    harness.record(session, [*new, old])
    harness.record(session, [old, *new])
    assert account(harness, session) == Account(submitted=2, completed=2)
    assert end(harness, session).state is SessionState.COMPLETED


def test_a_task_may_fail_and_be_redriven_again_and_again(harness: Harness) -> None:
    session = failed(harness, "CF")
    for _ in range(3):
        assert redrive(harness, session).tasks == 1
        fail(harness, session, 0, [b"", line("ValueError")])
        record(harness, session)
        assert end(harness, session).account == Account(submitted=2, completed=1, failed=1)
        [letter] = listed(harness, session)
        assert (letter.type, letter.tasks) == ("ValueError", (1,))


def test_the_tries_of_before_are_kept(harness: Harness) -> None:
    session = failed(harness, "CF")
    for tries in (1, 2):
        redrive(harness, session)
        task = harness.grid.queries.task(TENANT, session.session_id, 1)
        assert (task.state, task.error) == (TaskState.QUEUED, None)
        assert [(each.type, each.agent) for each in task.history] == [("KeyError", "a-1")] * tries
        assert task.history[-1].ended_at == harness.clock()
        error = TaskError.model_validate_json(line("KeyError")).model_copy(update={"history": task.history})
        fail(harness, session, 0, [b"", error.model_dump_json().encode()])
        record(harness, session)


def test_a_request_that_takes_long_says_where_to_go_on(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    session = failed(harness, "F", "FF", "F")
    send = TaskQueues.send

    def slowly(*args: Any) -> None:
        harness.clock.advance(5_000)
        send(*args)

    monkeypatch.setattr(TaskQueues, "send", slowly)
    first = redrive(harness, session)
    assert first == DeadLettersDone(tasks=3, next_bucket=0, next_after=1)
    rest = redrive(harness, session, bucket=first.next_bucket, after=first.next_after)
    assert rest == DeadLettersDone(tasks=1)
    assert listed(harness, session) == []


def test_only_the_chosen_tasks_run_and_the_others_keep_their_letters(harness: Harness) -> None:
    session = failed(harness, "FFCF", "F")
    assert redrive(harness, session, tasks=(1, 2, 99)) == DeadLettersDone(tasks=1)
    assert harness.row(session).outcomes == "FQCF"
    assert [letter.tasks for letter in listed(harness, session)] == [(0, 3), (4,)]
    assert redrive(harness, session, tasks=(0,)) == DeadLettersDone(tasks=0, busy=1)
    assert account(harness, session) == Account(submitted=5, failed=1)
    complete(harness, session, 0, "FCCF")
    assert end(harness, session).state is SessionState.FAILED
    assert redrive(harness, session, fingerprint="0" * 16).tasks == 0
    assert harness.read(session).state is SessionState.FAILED
    [letter, _] = listed(harness, session)
    assert redrive(harness, session, fingerprint=letter.fingerprint).tasks == 3


def test_tasks_run_with_other_events_which_are_not_lost(harness: Harness) -> None:
    session = failed(harness, "FFC")
    assert redrive(harness, session, events={1: '{"a":\n 1}'}, tasks=(0, 1)).tasks == 2
    row = harness.row(session)
    assert row.inputs.data is not None
    assert decode_lines(row.inputs.data, 3) == [b"{}", b'{"a":  1}', b"{}"]


def test_large_events_lie_beside_the_former_ones(harness: Harness) -> None:
    session = failed(harness, "F")
    redrive(harness, session, events={0: f'"{noise(20_000)}"'})
    row = harness.row(session)
    assert row.inputs.data is None
    assert row.inputs.stored_bytes is not None
    place = (input_key(TENANT, session.session_id, 0, row.inputs_edition), row.inputs.stored_bytes)
    first = harness.grid.bucket.get(*place)
    assert decode_lines(first, 1)[0].startswith(b'"')
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    redrive(harness, session, events={0: f'"{noise(30_000)}"'})
    assert harness.row(session).inputs_edition not in ("", row.inputs_edition)
    assert harness.grid.bucket.get(*place) == first
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    redrive(harness, session, events={0: "1"})
    assert harness.row(session).inputs == Payload(encode_lines([b"1"]))
    assert harness.row(session).inputs_edition == ""


def test_events_that_are_gone_cannot_be_replaced(harness: Harness) -> None:
    session = harness.create(close=False)
    [chunk] = inputs(2)
    stored = chunk.model_copy(update={"inputs": None, "stored_bytes": 9})
    request = AddChunks(chunks=(stored,), totals=Totals(chunks=1, tasks=2))
    harness.grid.submissions.add(TENANT, session.session_id, request)
    fail(harness, session, 0, [line("KeyError"), line("KeyError")])
    record(harness, session)
    ended = end(harness, session)
    with pytest.raises(SessionConflict, match="cannot be read"):
        redrive(harness, session, events={0: "1"})
    assert harness.read(session) == ended
    assert redrive(harness, session).tasks == 2


@pytest.mark.parametrize("data", [*HOSTILE.values(), bytes(20 * MIB)], ids=[*HOSTILE, "longer than announced"])
def test_hostile_events_and_results_take_little_memory(harness: Harness, data: bytes) -> None:
    session = harness.create(close=False)
    announced = min(len(data), 1_000_000)
    stored = inputs(2)[0].model_copy(update={"inputs": None, "stored_bytes": announced})
    harness.grid.bucket.put(input_key(TENANT, session.session_id, 0), data)
    request = AddChunks(chunks=(stored,), totals=Totals(chunks=1, tasks=2))
    harness.grid.submissions.add(TENANT, session.session_id, request)
    [lease] = harness.claim(session, 0)
    harness.grid.bucket.put(result_key(TENANT, session.session_id, 0, lease.attempt), data)
    results = Payload(stored_bytes=announced)
    harness.grid.chunks.finish([(lease, harness.progress("FF", results=results))])
    harness.record(session, [harness.row(session).outcome()])
    with at_most(90 * MIB):  # moto copies what it keeps
        record(harness, session)
        ended = end(harness, session)
        with pytest.raises(SessionConflict, match="cannot be read"):
            redrive(harness, session, events={0: "1"})
        assert harness.read(session) == ended
    assert redrive(harness, session).tasks == 2


STEPS: list[tuple[type, str]] = [
    (RedriveStore, "write"),
    (EventBus, "put"),
    (TaskQueues, "send"),
    (DeadLetterStore, "write"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("part", "step"), STEPS, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_a_redrive_that_dies_at_any_step_is_repeated(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, part: type, step: str, after: bool
) -> None:
    session = failed(harness, "FC", "F")

    def die(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if after:
                original(*args, **more)
            raise Died

        return call

    with monkeypatch.context() as patch:
        patch.setattr(part, step, die(getattr(part, step)))
        with pytest.raises(Died):
            redrive(harness, session)
    redrive(harness, session)
    assert redrive(harness, session) == DeadLettersDone(tasks=0)
    assert listed(harness, session) == []
    assert {message.chunk for message in harness.messages()} == {0, 1}
    assert "Session Reopened" in [name for name, _ in harness.events()]
    assert account(harness, session) == Account(submitted=3)
    complete(harness, session, 0, "CC")
    complete(harness, session, 1, "C")
    assert end(harness, session).account == Account(submitted=3, completed=3)


def test_a_redrive_that_died_and_is_never_repeated_ends_at_its_deadline(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = failed(harness, "FC", "F")
    with monkeypatch.context() as patch:
        patch.setattr(TaskQueues, "send", lambda *_: (_ for _ in ()).throw(Died()))
        with pytest.raises(Died):
            redrive(harness, session)
    assert harness.grid.lifecycle.settle(session.session_id, EndReason.TIMED_OUT, 0) is None
    ended = end(harness, session, EndReason.TIMED_OUT)
    assert ended.account == Account(submitted=3, completed=1, failed=1, cancelled=1)
    assert ended.state is SessionState.TIMED_OUT


def test_a_cancelled_session_reopens_and_what_was_cancelled_stays_so(harness: Harness) -> None:
    session = harness.create(1, 1, 1)
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    with pytest.raises(SessionClosed, match="being stopped"):
        redrive(harness, session)
    harness.grid.lifecycle.settle(session.session_id, EndReason.CANCELLED, 0)
    assert end(harness, session, EndReason.CANCELLED).state is SessionState.CANCELLED
    assert redrive(harness, session).tasks == 1
    again = harness.read(session)
    assert (again.stop_reason, again.state) == (None, SessionState.RUNNING)
    assert [harness.row(session, chunk).outcomes for chunk in range(3)] == ["Q", "X", "X"]
    complete(harness, session, 0, "C")
    assert harness.read(session).end_reason is EndReason.DONE
    ended = end(harness, session)
    assert (ended.state, ended.account) == (SessionState.CANCELLED, Account(submitted=3, completed=1, cancelled=2))


def test_a_session_stopped_by_its_budget_has_its_budget_back(harness: Harness) -> None:
    session = harness.create(2, 1, max_failures=1)
    fail(harness, session, 0, [line("KeyError"), line("KeyError")])
    record(harness, session)
    assert harness.read(session).stop_reason is EndReason.FAILURES
    harness.grid.lifecycle.settle(session.session_id, EndReason.FAILURES, 0)
    assert end(harness, session, EndReason.FAILURES).state is SessionState.FAILED
    redrive(harness, session)
    assert harness.read(session).failures == 0
    complete(harness, session, 0, "CF")
    assert harness.read(session).stop_reason is None
    assert end(harness, session).account == Account(submitted=3, completed=1, failed=1, cancelled=1)


@pytest.mark.parametrize("gap", [False, True])
def test_a_session_stopped_while_it_was_being_submitted_reopens_unless_it_has_gaps(harness: Harness, gap: bool) -> None:
    session = harness.create(1, 1, close=False)
    harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=2 + gap)))
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    harness.grid.lifecycle.cancel(TENANT, session.session_id)
    harness.grid.lifecycle.settle(session.session_id, EndReason.CANCELLED, 0)
    ended = end(harness, session, EndReason.CANCELLED)
    if gap:
        with pytest.raises(SessionConflict, match="lacks chunks"):
            redrive(harness, session)
        assert harness.read(session) == ended
        return
    redrive(harness, session)
    with pytest.raises(SessionConflict):
        harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=3)))
    complete(harness, session, 0, "C")
    assert harness.read(session).end_reason is EndReason.DONE
    assert end(harness, session).account == Account(submitted=3, completed=1, cancelled=2)


def test_a_session_is_not_reopened_beyond_the_day_on_which_its_rows_may_be_forgotten(
    harness: Harness,
) -> None:
    session = failed(harness, "F", "F", session_timeout_seconds=86_400)
    last = (session.expires_at - 3_600) * 1_000
    harness.clock.now = last - 1_000
    redrive(harness, session, tasks=(0,))
    assert harness.read(session).deadline_at == last
    complete(harness, session, 0, "C")
    end(harness, session)
    harness.clock.now = last
    with pytest.raises(SessionConflict, match="about to be forgotten"):
        redrive(harness, session)
    assert harness.read(session).state is SessionState.FAILED


def test_a_session_that_runs_goes_on_to_one_verdict(harness: Harness) -> None:
    session = harness.create(1, 1)
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    deadline = harness.read(session).deadline_at
    harness.clock.advance(1_000)
    harness.events()
    redrive(harness, session)
    assert (harness.read(session).deadline_at, harness.events()) == (deadline, [])
    complete(harness, session, 1, "C")
    assert harness.read(session).end_reason is None
    complete(harness, session, 0, "C")
    assert end(harness, session).state is SessionState.COMPLETED


def test_tasks_of_a_paused_session_wait_until_it_is_resumed(harness: Harness) -> None:
    session = harness.create(1, 1)
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    harness.messages()
    harness.grid.pausing.pause(TENANT, session.session_id)
    assert redrive(harness, session).tasks == 1
    row = harness.row(session)
    assert (row.state, row.claimable_at, harness.messages()) == (ChunkState.PAUSED, PAUSED_UNTIL, [])
    harness.grid.pausing.resume(TENANT, session.session_id)
    harness.grid.pausing.follow(session.session_id, 0)
    assert 0 in [message.chunk for message in harness.messages()]
    complete(harness, session, 0, "C")


def test_a_verdict_that_a_redrive_overtakes_is_not_written(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    session = harness.create(1, 1)
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    complete(harness, session, 1, "C")
    write = SessionStore.end

    def overtaken(*args: Any, **more: Any) -> Session:
        redrive(harness, session)
        return write(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SessionStore, "end", overtaken)
        assert end(harness, session).state is SessionState.RUNNING
    assert end(harness, session).state is SessionState.RUNNING
    complete(harness, session, 0, "C")
    assert end(harness, session).state is SessionState.COMPLETED


def test_a_bucket_that_a_redrive_reopens_meanwhile_is_not_noted_as_full(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = harness.create(1, 1)
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    write = SessionStore.add_full

    def overtaken(*args: Any) -> Session:
        if not harness.read(session).redrives:
            redrive(harness, session)
        return write(*args)

    monkeypatch.setattr(SessionStore, "add_full", overtaken)
    complete(harness, session, 1, "C")
    assert harness.read(session).full_buckets == frozenset()
    complete(harness, session, 0, "C")
    assert end(harness, session).state is SessionState.COMPLETED


def test_a_verdict_that_was_given_up_is_not_announced(harness: Harness) -> None:
    session = failed(harness, "F")
    redrive(harness, session)
    harness.events()
    harness.grid.lifecycle.announce(session.session_id)
    assert harness.events() == []
    complete(harness, session, 0, "C")
    with pytest.raises(AccountOpen):
        harness.grid.lifecycle.announce(harness.create(1).session_id)


def test_messages_go_where_they_came_from(harness: Harness) -> None:
    session = failed(harness, "F", priority="low")
    assert [message.chunk for message in harness.messages(Priority.LOW)] == [0]
    redrive(harness, session)
    assert [message.chunk for message in harness.messages(Priority.LOW)] == [0]


def test_nobody_else_redrives(harness: Harness) -> None:
    session = failed(harness, "F")
    for tenant, session_id in (("thief", session.session_id), (TENANT, new_id())):
        with pytest.raises(SessionNotFound):
            harness.grid.redrives.redrive(tenant, session_id, RedriveTasks())
    assert harness.read(session) == session


@pytest.mark.parametrize("event", ["{", "NaN", "", "1 2"])
def test_an_event_that_is_no_json_is_refused(event: str) -> None:
    with pytest.raises(ValueError, match="task 3 is not JSON"):
        RedriveTasks(events={3: event})


def noise(size: int) -> str:
    """Text that does not compress below the inline limit."""
    import random

    return "".join(random.Random(size).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=size))
