"""Agents, users, workflows and the completions function in any order, against the real conditional writes.

Whatever they do, and however late: a task's outcome never changes once it is recorded, unless it failed and is run
again at its owner's wish; what a former holder writes is refused, every chunk is counted once, and at the end the
account closes. Whoever follows the session is told of each outcome once, early or with its chunk, and never of another.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.support.control_plane_harness import AGENT, LEASE, TENANT, Harness, inputs

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.state import (
    CHUNK_TRANSITIONS,
    ChunkState,
)
from htcgrid_chunks.store import (
    ChunkLease,
    Claim,
)
from htcgrid_controlplane.errors import SessionClosed, SessionConflict, SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.recovery import RecoveryRequest
from htcgrid_controlplane.storage.dead_letters import ChunkLetters
from htcgrid_events import (
    ChunkOutcome,
    ChunksFrame,
    CreateSession,
    PartialOutcome,
    RedriveTasks,
    SessionOptions,
    Stages,
    TasksRetrying,
    new_id,
)

SIZES = (3, 2)
chunks = st.integers(0, len(SIZES) - 1)
agents = st.sampled_from([AGENT, "agent-2", "agent-3"])
letters = st.text("CFQ", min_size=max(SIZES), max_size=max(SIZES))
final_letters = st.text("CF", min_size=max(SIZES), max_size=max(SIZES))
waits = st.sampled_from([1, LEASE // 2, LEASE, 2 * LEASE])


@dataclass
class Hold:
    """What an agent knows of a chunk that it claimed, maybe long ago."""

    lease: ChunkLease
    outcomes: str

    def with_letters(self, letters: str) -> str:
        known = zip(self.outcomes, letters, strict=False)
        self.outcomes = "".join(letter if code == "Q" else code for code, letter in known)
        return self.outcomes


class Subscriber:
    """Whoever is pushed the outcomes of a session, and keeps of each task what is told first."""

    def __init__(self) -> None:
        self.told: dict[int, str] = {}
        """The letters of tasks, by their indexes."""
        self.finished: set[int] = set()
        self.early: set[int] = set()
        """Tasks that were told before their chunk had finished."""

    def take(self, frame: ChunksFrame) -> None:
        for outcome in (*frame.partial, *frame.outcomes):
            for index, code in enumerate(outcome.outcomes, outcome.first_task):
                if code != "Q":
                    assert self.told.setdefault(index, code) == code
        for partial in frame.partial:
            assert partial.chunk not in self.finished
            self.early |= _final_tasks(partial)
        self.finished |= {outcome.chunk for outcome in frame.outcomes}

    def forget(self, chunk: int, tasks: range) -> None:
        """Tasks of the chunk were redriven."""
        self.finished.discard(chunk)
        self.early -= set(tasks)
        for index in tasks:
            self.told.pop(index, None)


class Protocol(RuleBasedStateMachine):
    """`rows` is what the table holds, as the last step left it; `events` is what was sent about finished chunks, and
    `retries` about tasks of others."""

    harness: Harness
    holds: Bundle[Hold] = Bundle("holds")
    sightings: Bundle[Chunk] = Bundle("sightings")

    def __init__(self) -> None:
        super().__init__()
        self.harness.clock.now += 10 * LEASE
        session_id = new_id()
        self.former = Session(session_id, "tenant-2", SessionOptions(), 1, 2, expires_at=3)
        self.left_behind = self._leave_behind()
        self.connection = new_id()
        subscriber_id = self.harness.connect(self.connection)
        self.session = self.harness.create(*SIZES, session_id=session_id, subscriber_id=subscriber_id)
        self.subscriber = Subscriber()
        self.rows = self._read()
        self.events: list[ChunkOutcome] = []
        self.retries: list[TasksRetrying] = []
        self.counted: set[int] = set()
        self.stopped = False
        self.ended = False

    def _leave_behind(self) -> Chunk:
        """A row and dead letters of an earlier session of the same id, which had another tenant."""
        key = ChunkKey(self.former.session_id, len(SIZES))
        row = Chunk(key, self.former.tenant, ChunkState.QUEUED, 0, 1, 0, Payload(b"x"), "Q", expires_at=3)
        assert self.harness.grid.chunks.insert([row]) == [True]
        letters = ChunkLetters(ChunkKey(self.former.session_id, 0), purged=frozenset(range(sum(SIZES))))
        assert self.harness.grid.dead_letters.store.write(self.former, letters)
        return row

    @rule()
    def a_stranger_tries_the_id(self) -> None:
        session_id, tenant = self.session.session_id, self.former.tenant
        with pytest.raises(SessionConflict):
            self.harness.grid.submissions.create(tenant, session_id, CreateSession(chunks=inputs(*SIZES)))
        with pytest.raises(SessionNotFound):
            self.harness.grid.lifecycle.cancel(tenant, session_id)

    @rule(target=holds, agent=agents, chunk=chunks)
    def claim(self, agent: str, chunk: int) -> Hold:
        return self._claim(agent, chunk)

    def _claim(self, agent: str, chunk: int) -> Hold:
        now, before = self._now(), self.rows[chunk]
        key = ChunkKey(self.session.session_id, chunk)
        accepted, row = self.harness.grid.chunks.claim([Claim(key, agent, now, now + LEASE, "m", now, TENANT)])[0]
        assert row is not None
        assert accepted is (not before.finished and before.claimable_at <= now)
        assert row.attempt == before.attempt + accepted
        if not accepted:
            assert row == before
            # Such an agent must not write: it behaves here as if it believed that it may.
            return Hold(ChunkLease(key, agent, row.attempt + 1), row.outcomes)
        assert before.state is not ChunkState.PAUSED
        assert row.outcomes == before.outcomes
        return Hold(ChunkLease(key, agent, row.attempt), row.outcomes)

    @rule(hold=holds, wait=waits)
    def extend(self, hold: Hold, wait: int) -> None:
        self._write(hold, self.harness.grid.chunks.extend([hold.lease], self._now() + wait))

    @rule(hold=holds, codes=letters, wait=waits)
    def checkpoint(self, hold: Hold, codes: str, wait: int) -> None:
        progress = self.harness.progress(hold.with_letters(codes))
        self._write(hold, self.harness.grid.chunks.checkpoint([(hold.lease, progress, self._now() + wait)]))

    @rule(hold=holds, codes=letters, wait=waits)
    def retry(self, hold: Hold, codes: str, wait: int) -> None:
        progress = self.harness.progress(hold.with_letters(codes))
        accepted = self.harness.grid.chunks.retry([(hold.lease, progress, self._now() + wait)])
        self._write(hold, accepted)
        if accepted == [True] and "Q" in hold.outcomes:
            self.retries.append(self.harness.retrying(self._read()[hold.lease.key.chunk]))

    @rule(hold=holds, codes=final_letters, answer_lost=st.booleans())
    def finish(self, hold: Hold, codes: str, answer_lost: bool) -> None:
        self._finish(hold, codes, answer_lost=answer_lost)

    def _finish(self, hold: Hold, codes: str, *, answer_lost: bool) -> None:
        self._now()
        work = [(hold.lease, self.harness.progress(hold.with_letters(codes)))]
        accepted = self.harness.grid.chunks.finish(work)
        self._write(hold, accepted)
        if accepted == [True]:
            if answer_lost:
                assert self.harness.grid.chunks.finish(work) == [True]
            self.events.append(self._read()[hold.lease.key.chunk].outcome())

    @rule(agent=agents, codes=final_letters)
    def run_what_waits(self, agent: str, codes: str) -> None:
        """An agent does what it should with every chunk that it can get, and its failures are kept."""
        for chunk in range(len(SIZES)):
            if not self.rows[chunk].finished and self.rows[chunk].claimable_at <= self._now():
                hold = self._claim(agent, chunk)
                self.an_outcome_stays_and_states_follow_the_rules()
                self._finish(hold, codes, answer_lost=False)
                self.an_outcome_stays_and_states_follow_the_rules()
                self.harness.record(self.session, self.events[-1:])
                self.counted.add(chunk)
                self.harness.grid.dead_letters.record(self.session.session_id, chunk)

    @rule(target=holds, agent=agents, chunk=chunks)
    def claim_and_fall_silent(self, agent: str, chunk: int) -> Hold:
        hold = self._claim(agent, chunk)
        self.harness.clock.advance(LEASE)
        return hold

    @rule(target=sightings, chunk=chunks)
    def see(self, chunk: int) -> Chunk:
        return self.rows[chunk]

    @rule(seen=sightings)
    def cancel_as_seen(self, seen: Chunk) -> None:
        if not seen.finished:
            accepted = self.harness.grid.chunks.cancel([seen], self._now())
            assert accepted == [seen == self.rows[seen.key.chunk]]

    @rule(seen=sightings)
    def hold_as_seen(self, seen: Chunk) -> None:
        if seen.waits:
            self._now()
            assert self.harness.grid.chunks.pause([seen]) == [seen == self.rows[seen.key.chunk]]

    @rule(seen=sightings)
    def release_as_seen(self, seen: Chunk) -> None:
        if seen.state is ChunkState.PAUSED:
            self._now()
            assert self.harness.grid.chunks.resume([seen]) == [seen == self.rows[seen.key.chunk]]

    @rule(seen=sightings, wait=waits)
    def requeue_as_seen(self, seen: Chunk, wait: int) -> None:
        if seen.state is ChunkState.RUNNING:
            accepted = self.harness.grid.recovery.leases.requeue([(seen, self._now() + wait)])
            assert accepted == [seen == self.rows[seen.key.chunk]]

    @rule(hold=holds)
    def beat_while_it_is_looked_at(self, hold: Hold) -> None:
        """The workflow read the chunk before the heartbeat of its holder, and writes after it."""
        seen = self.rows[hold.lease.key.chunk]
        if seen.state is ChunkState.RUNNING:
            renewed = self.harness.grid.chunks.extend([hold.lease], self._now() + LEASE)
            self._write(hold, renewed)
            requeued = self.harness.grid.recovery.leases.requeue([(seen, self._now())])
            assert requeued == [not accepted for accepted in renewed]

    @precondition(lambda self: any(row.state is not ChunkState.QUEUED for row in self.rows))
    @rule()
    def look_for_what_is_lost(self) -> None:
        """The workflow for expired leases finds every chunk at once, whatever has become of it."""
        now = self._now()
        keys = [row.key for row in self.rows]
        assert self.harness.grid.recovery.recover(keys, RecoveryRequest(now)).failures == 0
        for before, after in zip(self.rows, self._read(), strict=True):
            if before.lease_expires_at is not None and before.lease_expires_at <= now and not self._over:
                assert after.state in (ChunkState.RETRY, ChunkState.FINISHED)
            elif before.lease_expires_at is not None:
                assert after == before
        self._hear()

    @rule(paused=st.booleans())
    def pause_or_resume(self, paused: bool) -> None:
        self._now()
        holds = self.harness.grid.pausing
        session = (holds.pause if paused else holds.resume)(TENANT, self.session.session_id)
        assert holds.follow(self.session.session_id, 0) is None
        for row in self._read():
            if session.paused:
                assert not row.waits
            else:
                assert row.state is not ChunkState.PAUSED

    @rule()
    def recount(self) -> None:
        assert self.harness.grid.recounts.recount(self.session.session_id, 0) is None
        self.counted |= {row.key.chunk for row in self.rows if row.finished}

    @rule(chunk=chunks)
    def keep_dead_letters(self, chunk: int) -> None:
        self.harness.grid.dead_letters.record(self.session.session_id, chunk)

    @precondition(lambda self: any(row.finished and "F" in row.outcomes for row in self.rows))
    @rule()
    def redrive(self) -> None:
        self._now()
        before = self.rows
        redrives = self.harness.grid.redrives
        if self.stopped and not self.ended:
            if list(self.harness.grid.dead_letters.page(TENANT, self.session.session_id, 0, -1).letters):
                self._refused_or_nothing_to_do()
            return
        done = redrives.redrive(TENANT, self.session.session_id, RedriveTasks())
        self.rows = self._read()
        opened = 0
        for old, new in zip(before, self.rows, strict=True):
            if old.finished and not new.finished:
                assert old.key.chunk in self.counted
                assert new.attempt == old.attempt + 1
                assert all(o == n or (o, n) == ("F", "Q") for o, n in zip(old.outcomes, new.outcomes, strict=True))
                opened += new.outcomes.count("Q")
                self.counted.discard(old.key.chunk)
                self.subscriber.forget(old.key.chunk, range(old.first_task, old.first_task + old.size))
            else:
                assert new == old
        assert done.tasks == opened
        if opened:
            self.stopped = self.ended = False

    @precondition(lambda self: len(self.counted) == len(SIZES) and not self.ended)
    @rule()
    def end(self) -> None:
        reason = EndReason.CANCELLED if self.stopped else EndReason.DONE
        ended = self.harness.grid.lifecycle.end(self.session.session_id, reason)
        assert ended.state.ended
        assert ended.account is not None
        assert ended.account.closes
        self.ended = True

    @rule(wait=waits)
    def time_passes(self, wait: int) -> None:
        self.harness.clock.advance(wait)

    @precondition(lambda self: self.events)
    @rule(data=st.data())
    def events_come(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.events), min_size=1, max_size=4))
        self.harness.record(self.session, some)
        self.counted |= {event.chunk for event in some if self.rows[event.chunk].finished}

    @rule(chunk=st.integers(0, len(SIZES)), codes=final_letters, attempt=st.integers(0, 9))
    def an_event_is_forged(self, chunk: int, codes: str, attempt: int) -> None:
        """An event proves nothing: at most, the truth is counted early."""
        forged = ChunkOutcome(
            chunk=chunk, first_task=0, outcomes=codes, attempt=attempt, agent="forger", stages=Stages()
        )
        self.harness.record(self.session, [forged])
        self.counted |= {row.key.chunk for row in self.rows if row.finished and row.key.chunk == chunk}

    @precondition(lambda self: self.retries)
    @rule(data=st.data())
    def retries_come(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.retries), min_size=1, max_size=4))
        self.harness.grid.completions.announce_retries(self.session.session_id, some)
        self._listen()
        for row in self.rows:
            if not row.finished and row.key.chunk in {retry.chunk for retry in some}:
                assert self.subscriber.early >= _final_tasks(row.partial_outcome())

    @precondition(lambda self: not self.stopped)
    @rule(chance=st.integers(1, 10))
    def session_is_stopped(self, chance: int) -> None:
        if chance == 10:
            self._stop()

    @invariant()
    def an_outcome_stays_and_states_follow_the_rules(self) -> None:
        rows = self._read()
        for before, after in zip(self.rows, rows, strict=True):
            assert all(old in ("Q", new) for old, new in zip(before.outcomes, after.outcomes, strict=True))
            assert after.state == before.state or after.state in _reachable(before.state)
            assert after.attempt in (before.attempt, before.attempt + 1)
            if after.finished:
                assert not after.open_offsets
            if before.finished:
                assert after == before
        self.rows = rows

    @invariant()
    def what_was_counted_was_counted_once(self) -> None:
        account = self.harness.grid.accounts.read(self.session, [0])[0]
        assert set(account.finished) == self.counted
        codes = "".join(self.rows[chunk].outcomes for chunk in self.counted)
        assert account.tasks.submitted == sum(SIZES)
        assert (account.tasks.completed, account.tasks.failed, account.tasks.cancelled) == tuple(
            codes.count(code) for code in "CFX"
        )

    @invariant()
    def what_was_told_is_what_the_rows_say(self) -> None:
        self._listen()
        letters = "".join(row.outcomes for row in self.rows)
        assert all(letters[index] == code for index, code in self.subscriber.told.items())

    def teardown(self) -> None:
        self._stop()
        if self.retries:
            self.harness.grid.completions.announce_retries(self.session.session_id, self.retries)
        if self.events:
            self.harness.record(self.session, self.events)
        self.an_outcome_stays_and_states_follow_the_rules()
        self.what_was_counted_was_counted_once()
        self.what_was_told_is_what_the_rows_say()
        ended = self.harness.grid.lifecycle.end(self.session.session_id, EndReason.CANCELLED)
        assert ended.state.ended
        assert ended.account is not None
        assert ended.account.closes
        assert ended.account.submitted == sum(SIZES)
        assert self.harness.grid.chunks.read(self.former, len(SIZES)) == self.left_behind

    @property
    def _over(self) -> bool:
        """Whether what is lost is left to the one who stops the session."""
        return self.stopped or self.ended

    def _hear(self) -> None:
        """Keep the events that the control plane has sent itself."""
        session_id = self.session.session_id
        self.events += [event.outcome for event in self.harness.task_events() if event.session_id == session_id]

    def _listen(self) -> None:
        """Take what was pushed since the last time."""
        for frame in self.harness.push.frames.pop(self.connection, []):
            if isinstance(frame, ChunksFrame):
                self.subscriber.take(frame)

    def _refused_or_nothing_to_do(self) -> None:
        failed = any(row.finished and "F" in row.outcomes for row in self.rows)
        if failed:
            with pytest.raises(SessionClosed):
                self.harness.grid.redrives.redrive(TENANT, self.session.session_id, RedriveTasks())

    def _stop(self) -> None:
        assert self.harness.grid.lifecycle.settle(self.session.session_id, EndReason.CANCELLED, 0) is None
        self.stopped = self.stopped or not self.ended
        self.counted = set(range(len(SIZES)))

    def _now(self) -> int:
        return self.harness.clock.advance(1)

    def _write(self, hold: Hold, accepted: list[bool]) -> None:
        row = self.rows[hold.lease.key.chunk]
        mine = (row.owner, row.attempt) == (hold.lease.owner, hold.lease.attempt)
        assert accepted == [mine and row.state is ChunkState.RUNNING]

    def _read(self) -> list[Chunk]:
        return self.harness.grid.chunks.bucket(self.session, 0)[0]


def _final_tasks(outcome: PartialOutcome) -> set[int]:
    """The indexes of its tasks that are final."""
    return {index for index, code in enumerate(outcome.outcomes, outcome.first_task) if code != "Q"}


def _reachable(state: ChunkState) -> set[ChunkState]:
    """What one step may make of a state: a claim of an expired lease and an end may come together in a teardown."""
    return {state for first in CHUNK_TRANSITIONS[state] for state in (first, *CHUNK_TRANSITIONS[first])}


def test_agents_cannot_break_the_protocol(harness: Harness) -> None:
    machine: Any = type("ProtocolInThisWorld", (Protocol,), {"harness": harness})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
