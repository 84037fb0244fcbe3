"""Frames keep within what a WebSocket message may hold, and lose nothing but results that can be fetched."""

from hypothesis import given, settings
from hypothesis import strategies as st

from htcgrid_controlplane.outbound.push import chunk_frames
from htcgrid_events import INLINE_BYTES, MAX_PUSH_BYTES, MAX_TASKS_PER_CHUNK, ChunkOutcome, ChunksFrame, Stages

SESSION = "5" * 32
NOW = 1_760_000_000_000
STAGES = Stages(
    submitted_at=NOW, queued_at=NOW, claimed_at=NOW, started_at=NOW, finished_at=NOW, notified_at=NOW
)  # fmt: skip
sizes = st.one_of(st.none(), st.integers(0, INLINE_BYTES), st.integers(INLINE_BYTES, 2 * MAX_PUSH_BYTES))


@st.composite
def _outcomes(draw: st.DrawFn) -> list[ChunkOutcome]:
    return [
        ChunkOutcome(
            chunk=10_000_000 + number,
            first_task=10_000_000_000,
            outcomes="C" * draw(st.integers(1, MAX_TASKS_PER_CHUNK)),
            attempt=1,
            agent="a" * draw(st.integers(1, 253)),
            stages=STAGES,
            results=None if (size := draw(sizes)) is None else b"r" * size,
            stored_bytes=77 if size is None else None,
        )
        for number in range(draw(st.integers(0, 60)))
    ]


def size_of(frame: ChunksFrame) -> int:
    return len(frame.model_dump_json(exclude_none=True).encode())


@settings(deadline=None)
@given(_outcomes())
def test_every_outcome_is_in_one_frame_and_no_frame_is_too_large(outcomes: list[ChunkOutcome]) -> None:
    frames = list(chunk_frames(SESSION, outcomes))
    assert all(size_of(frame) <= MAX_PUSH_BYTES for frame in frames)
    assert all(frame.session_id == SESSION and frame.outcomes for frame in frames)
    pushed = [outcome for frame in frames for outcome in frame.outcomes]
    assert [outcome.chunk for outcome in pushed] == [outcome.chunk for outcome in outcomes]
    for before, after in zip(outcomes, pushed, strict=True):
        if after.results is None and before.results is not None:
            assert after.stored_bytes == len(before.results)
            assert len(before.results) > MAX_PUSH_BYTES // 2
        else:
            assert after == before


def test_many_small_outcomes_share_a_frame() -> None:
    outcome = ChunkOutcome(chunk=0, first_task=0, outcomes="C" * 50, attempt=1, agent="a", stages=STAGES, results=b"r")
    frames = list(chunk_frames(SESSION, [outcome] * 100))
    assert len(frames) == 1


def test_many_outcomes_of_an_agent_with_a_long_name_still_fit() -> None:
    outcome = ChunkOutcome(chunk=0, first_task=0, outcomes="C", attempt=1, agent="a" * 253, stages=STAGES)
    numbered = [outcome.model_copy(update={"chunk": 10_000_000 + number}) for number in range(1_000)]
    frames = list(chunk_frames(SESSION, numbered))
    assert len(frames) > 1
    assert max(size_of(frame) for frame in frames) <= MAX_PUSH_BYTES


def test_nothing_makes_no_frame() -> None:
    assert list(chunk_frames(SESSION, [])) == []
