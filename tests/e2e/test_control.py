"""Sessions that are paused, resumed and stopped, through the deployed workflows."""

from pathlib import Path

import pytest

from htcgrid import JSON, Grid, SessionNotFound
from htcgrid_events import BUCKET_SIZE, SessionState
from htcgrid_local import LocalGrid
from tests.e2e.stored import Stored
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def sleeper(note: Path, seconds: float) -> JSON:
    return {"do": "sleep", "seconds": seconds, "note": str(note), "value": "slept"}


def test_a_paused_session_finishes_what_runs_and_begins_nothing_until_it_is_resumed(
    grid: Grid, local_grid: LocalGrid, tmp_path: Path
) -> None:
    gate, notes = tmp_path / "gate", [tmp_path / f"running-{number}" for number in range(4)]
    tasks: list[JSON] = [{"do": "wait", "note": str(note), "until": str(gate), "value": "ran"} for note in notes]
    running = grid.submit(tasks, chunk_size=1)
    until(lambda: all(note.exists() for note in notes))
    # All workers are busy, so nothing of the second session has begun.
    held = [tmp_path / f"held-{number}" for number in range(BUCKET_SIZE + 4)]
    session = grid.submit([sleeper(note, 0) for note in held], chunk_size=1)
    assert running.pause().paused
    assert session.pause().paused
    stored = Stored(local_grid)
    # The workflow has done its work when no chunk waits that is not paused.
    until(lambda: not any(row.waits for row in stored.rows(session.id, buckets=2)))
    gate.touch()
    assert running.results(timeout=60) == ["ran"] * len(notes)
    # A third session, whose messages lie behind those of the paused one, runs from beginning to end.
    assert len(grid.submit([{"value": number} for number in range(40)], chunk_size=1).results(timeout=60)) == 40
    # But for what agents had taken in advance.
    assert sum(note.exists() for note in held) < len(held) / 2
    assert session.status().paused
    assert not session.resume().paused
    assert session.results(timeout=120) == ["slept"] * len(held)
    assert session.wait(timeout=60).state is SessionState.COMPLETED


def test_a_session_that_has_ended_is_not_paused(grid: Grid) -> None:
    session = grid.submit([{"value": 1}])
    assert session.wait(timeout=60).state is SessionState.COMPLETED
    assert not session.pause().paused


def test_several_and_all_sessions_are_cancelled_and_those_of_others_are_left(
    grid: Grid, stranger: Grid, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    first, second, third = (grid.submit([sleeper(note, 600)]) for _ in range(3))
    theirs = stranger.submit([sleeper(note, 600)])
    answer = grid.cancel([first.id, theirs.id])
    assert (answer.stopping, answer.unknown) == ((first.id,), (theirs.id,))
    assert first.wait(timeout=60).state is SessionState.CANCELLED
    assert set(grid.cancel(None).stopping) >= {second.id, third.id}
    assert {session.wait(timeout=60).state for session in (second, third)} == {SessionState.CANCELLED}
    assert not theirs.status().state.ended
    assert theirs.cancel().stop_reason == "cancelled"
    assert theirs.wait(timeout=60).state is SessionState.CANCELLED
    listed = {each.session_id: each for each in grid.sessions(state="cancelled")}
    assert {first.id, second.id, third.id} <= listed.keys()
    assert theirs.id not in listed
    with pytest.raises(SessionNotFound):
        stranger.attach(first.id).pause()


def test_a_grid_says_who_one_is_and_what_it_has(grid: Grid, stranger: Grid) -> None:
    mine, theirs = grid.info(), stranger.info()
    assert mine.tenant != theirs.tenant
    assert mine.partitions == ("default",)
    assert mine.notification_topic.startswith("arn:aws:sns:")


def test_an_account_that_does_not_close_is_mended(grid: Grid, local_grid: LocalGrid, tmp_path: Path) -> None:
    session = grid.submit([sleeper(tmp_path / "note", 3)], timeout=150)
    until((tmp_path / "note").exists)
    local_grid.client("dynamodb").update_item(
        TableName=local_grid.outputs["ChunksTable"],
        Key={"bucket": {"S": f"{session.id}#0"}, "chunk": {"N": "-1"}},
        UpdateExpression="ADD completed :three",
        ExpressionAttributeValues={":three": {"N": "3"}},
    )
    status = session.wait(timeout=90)
    assert (status.state, status.account.completed) == (SessionState.COMPLETED, 1)
