"""Which state may follow which: walks over the tables, whatever path is taken."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.state import (
    CHUNK_TRANSITIONS,
    ChunkState,
)
from htcgrid_controlplane.rules.transitions import (
    SESSION_TRANSITIONS,
    TASK_TRANSITIONS,
)
from htcgrid_events import SessionState, TaskState


def is_open(state: TaskState) -> bool:
    """Whether a task in this state has no outcome yet."""
    return state not in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


Table = Mapping[Any, frozenset[Any]]
TABLES: list[Table] = [TASK_TRANSITIONS, SESSION_TRANSITIONS, CHUNK_TRANSITIONS]


@pytest.mark.parametrize("table", TABLES)
def test_every_state_has_its_place_in_its_table(table: Table) -> None:
    assert set(table) == set(type(next(iter(table))).__members__.values())
    assert all(after in table for followers in table.values() for after in followers)


ENDS: dict[type, frozenset[Any]] = {
    TaskState: frozenset(state for state in TaskState if not is_open(state)),
    SessionState: frozenset(state for state in SessionState if state.ended),
    ChunkState: frozenset({ChunkState.FINISHED}),
}


@pytest.mark.parametrize("table", TABLES)
def test_from_every_state_there_is_a_way_to_an_end(table: Table) -> None:
    ends = set(ENDS[type(next(iter(table)))])
    while more := {state for state, followers in table.items() if followers & ends} - ends:
        ends |= more
    assert ends == set(table)


@pytest.mark.parametrize("table", TABLES)
def test_every_state_can_be_reached_from_the_first(table: Table) -> None:
    reached = {next(iter(table))}
    while more := {after for state in reached for after in table[state]} - reached:
        reached |= more
    assert reached == set(table)


def test_a_verdict_or_an_outcome_is_left_by_a_redrive_alone() -> None:
    left = {
        end: followers for table in TABLES for end, followers in table.items() if end in ENDS[type(end)] and followers
    }
    assert left == {
        TaskState.FAILED: {TaskState.QUEUED},
        SessionState.FAILED: {SessionState.RUNNING},
        SessionState.CANCELLED: {SessionState.RUNNING},
        SessionState.TIMED_OUT: {SessionState.RUNNING},
        ChunkState.FINISHED: {ChunkState.QUEUED, ChunkState.PAUSED},
    }


def test_only_a_task_that_ran_completes_or_fails_and_any_open_one_may_be_cancelled() -> None:
    for outcome in (TaskState.COMPLETED, TaskState.FAILED, TaskState.RETRY):
        assert [state for state, followers in TASK_TRANSITIONS.items() if outcome in followers] == [TaskState.RUNNING]
    assert all((TaskState.CANCELLED in followers) is is_open(state) for state, followers in TASK_TRANSITIONS.items())


def test_a_session_that_takes_chunks_still_has_not_completed() -> None:
    assert SessionState.COMPLETED not in SESSION_TRANSITIONS[SessionState.OPEN]


@st.composite
def _rows(draw: st.DrawFn) -> Chunk:
    outcomes = draw(st.text("QCFX", min_size=1, max_size=20))
    finished = "Q" not in outcomes
    state = ChunkState.FINISHED if finished else draw(st.sampled_from([s for s in ChunkState if s != "FINISHED"]))
    return Chunk(
        key=ChunkKey("5" * 32, 7),
        tenant="t",
        state=state,
        first_task=draw(st.integers(0, 1000)),
        size=len(outcomes),
        attempt=draw(st.integers(0, 9)),
        inputs=Payload(b""),
        outcomes=outcomes,
        claimable_at=5,
    )


@given(_rows())
def test_a_task_is_open_exactly_while_its_letter_says_so(chunk: Chunk) -> None:
    still_open = [offset for offset in range(chunk.size) if is_open(chunk.task_state(offset))]
    assert still_open == chunk.open_offsets
    assert (chunk.lease_expires_at is not None) is (chunk.state is ChunkState.RUNNING)


@given(_rows().filter(lambda chunk: chunk.finished))
def test_a_finished_chunk_says_the_outcome_of_each_task(chunk: Chunk) -> None:
    outcome = chunk.outcome(notified_at=9, url="https://example.com")
    assert (outcome.chunk, outcome.first_task, outcome.outcomes, outcome.attempt, outcome.agent) == (
        chunk.key.chunk,
        chunk.first_task,
        chunk.outcomes,
        chunk.attempt,
        chunk.owner,
    )
    assert outcome.stages.notified_at == 9
    assert outcome.url == "https://example.com"
