"""The memory of all payloads in hand is bounded together, and nobody waits for ever."""

import json
from pathlib import Path

import pytest
from agent.tests.embedded import until
from agent.tests.harness import TENANT, Place, Session
from tests.support.hostile import HOSTILE, MIB

from htcgrid_agent.work.job import Delivery, Job
from htcgrid_agent.work.memory import PayloadMemory
from htcgrid_chunks.chunk import Chunk, ChunkKey, Payload
from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.state import ChunkState
from htcgrid_dataplane import encode_lines, input_key
from htcgrid_events import ChunkQueued, FailureKind, OutcomeCode, Priority, Stages, TaskError


def job(number: int = 0) -> Job:
    queued = ChunkQueued(session_id="5" * 32, chunk=number, tenant="t", max_retries=0, task_timeout_seconds=1)
    row = Chunk(ChunkKey("5" * 32, number), "t", ChunkState.QUEUED, number, 1, 1, Payload(), OutcomeCode.OPEN.value)
    return Job(Delivery(queued, Priority.NORMAL, "", "", "", 0, 0), row)


class Memory(PayloadMemory):
    """A memory that notes whom it let in, and how often it was relieved."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, self._note)
        self.granted: list[Job] = []
        self.reliefs = 0

    def want(self, job: Job, size: int) -> None:
        self.when_free(job, size, lambda: self.granted.append(job))

    def _note(self) -> None:
        self.reliefs += 1


def test_chunks_share_half_of_it_for_their_inputs() -> None:
    memory, first, second = Memory(100), job(1), job(2)
    assert memory.grow(first, 30)
    assert memory.grow(first, 20)
    assert not memory.grow(second, 21)
    assert memory.total == 30
    assert memory.grow(second, 20)
    assert memory.total == 50
    memory.shrink(first, 10)
    memory.shrink(second, 60)
    assert memory.total == 30
    memory.release(first)
    memory.release(first)
    assert memory.total == 20
    assert [memory.full, Memory(100).full] == [False, False]


def test_those_that_do_not_fit_wait_in_their_order_and_hold_nothing_meanwhile() -> None:
    memory, jobs = Memory(100), [job(number) for number in range(4)]
    assert memory.grow(jobs[0], 40)
    assert memory.grow(jobs[1], 5)
    memory.want(jobs[1], 20)
    memory.want(jobs[2], 1)
    assert (memory.granted, memory.full, memory.total) == ([], True, 40)
    memory.release(jobs[0])
    assert memory.granted == jobs[1:3]
    memory.want(jobs[3], 29)
    assert memory.granted == jobs[1:]
    assert memory.total == 50


@pytest.mark.parametrize("size", [51, 1_000])
def test_one_that_is_larger_than_it_runs_alone(size: int) -> None:
    memory, jobs = Memory(100), [job(number) for number in range(3)]
    assert memory.grow(jobs[0], 1)
    memory.want(jobs[1], size)
    memory.want(jobs[2], 1)
    assert memory.granted == []
    memory.release(jobs[0])
    assert memory.granted == [jobs[1]]
    assert memory.may_start(jobs[1])
    memory.release(jobs[1])
    assert memory.granted == jobs[1:]


def test_no_results_are_made_but_those_of_the_first_while_there_is_no_room() -> None:
    memory, first, second = Memory(100), job(1), job(2)
    assert memory.grow(first, 10)
    assert memory.grow(second, 10)
    memory.add(second, 80)
    assert memory.may_start(first)
    assert memory.may_start(second)
    memory.add(second, 1)
    assert memory.may_start(first)
    assert not memory.may_start(second)
    assert memory.reliefs == 0
    memory.release(first)
    assert memory.reliefs == 1
    assert memory.may_start(second)
    memory.release(second)
    memory.add(second, 1_000)
    assert memory.total == 0


def test_nobody_waits_at_the_end() -> None:
    memory, jobs = Memory(100), [job(number) for number in range(3)]
    assert memory.grow(jobs[0], 50)
    memory.want(jobs[1], 50)
    memory.close()
    memory.want(jobs[2], 1_000)
    assert memory.granted == jobs[1:]


def submit(place: Place, *chunks: tuple[bytes, int], tasks: int = 2) -> Session:
    """A session whose inputs lie in the data plane as they are given, each with its announced size."""
    session = Session("5" * 32, [tasks] * len(chunks))
    rows = []
    for number, (data, announced) in enumerate(chunks):
        place.payloads.put(input_key(TENANT, session.session_id, number), data)
        rows.append(
            Chunk(
                session.key(number),
                TENANT,
                ChunkState.QUEUED,
                number * tasks,
                tasks,
                0,
                Payload(stored_bytes=announced),
                OutcomeCode.OPEN.value * tasks,
                stages=Stages(submitted_at=system_clock()),
                expires_at=system_clock() // 1000 + 3600,
            )
        )
    place.store.insert(rows)
    for number in range(len(chunks)):
        place.send(session, number)
    return session


def peak(process: int) -> int:
    """The most memory that a process has had, in bytes."""
    [line] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_hostile_inputs_fail_their_tasks_in_little_memory_and_others_go_on(place: Place) -> None:
    good = encode_lines([b'{"do": "echo", "value": 1}'] * 2)
    long_lines = encode_lines([b"0" * 100 * MIB] * 2)
    hostile = [
        *((data, len(data)) for data in HOSTILE.values()),
        (long_lines, len(long_lines)),
        (bytes(100 * MIB), 1),
        (good, len(good) + 1),
        (b"", 1),
    ]
    agent = place.agent(workers=2, payload_memory_mb=64)
    session = submit(place, (good, len(good)), *hostile, (good, len(good)))
    ends = place.results(session)
    for end in ends[2:-2]:
        assert isinstance(end, TaskError), end
        assert (end.kind, end.attempts) == (FailureKind.INPUT, 1)
        assert len(end.message) < 300
    assert not any(isinstance(end, TaskError) for end in (*ends[:2], *ends[-2:]))
    assert peak(agent.pid) < 250 * MIB
    assert agent.end() == 0


def test_a_nested_event_fails_its_task_alone(place: Place) -> None:
    nested = encode_lines([b"[" * 2_000_000 + b"]" * 2_000_000, b'{"do": "echo", "value": 1}'])
    place.agent(workers=1)
    session = submit(place, (nested, len(nested)))
    end, other = place.results(session)
    assert isinstance(end, TaskError)
    assert end.kind is FailureKind.HANDLER
    assert not isinstance(other, TaskError)


def test_chunks_that_do_not_fit_together_run_one_after_the_other(place: Place) -> None:
    events = [json.dumps({"do": "echo", "value": 1, "rest": "x" * 3 * MIB}).encode()] * 6
    data = encode_lines(events)
    session = submit(place, *[(data, len(data))] * 4, tasks=6)
    agent = place.agent(workers=2, prefetch=4, payload_memory_mb=16)
    assert not any(isinstance(end, TaskError) for end in place.results(session, within=60))
    assert agent.said("waits for memory")
    assert agent.end() == 0


def test_an_agent_that_stops_hands_back_what_waits_for_memory(place: Place) -> None:
    events = [json.dumps({"do": "hang", "rest": "x" * 5 * MIB}).encode()] * 2
    data = encode_lines(events)
    session = submit(place, *[(data, len(data))] * 3)
    agent = place.agent(workers=4, prefetch=4, payload_memory_mb=16, grace_seconds=0)
    until(lambda: agent.said("waits for memory"))
    assert agent.end() == 0
    rows = [place.row(session, number) for number in range(3)]
    assert [(row.state, row.outcomes) for row in rows] == [(ChunkState.RETRY, "QQ")] * 3
