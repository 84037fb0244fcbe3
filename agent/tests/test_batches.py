"""Many tasks in one message: the protocol by its parts, and what becomes of a batch one of whose tasks goes wrong."""

import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from agent.tests.embedded import until
from agent.tests.harness import Place, Session
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.execution.batch_sizing import BatchSizing
from htcgrid_agent.runtimes.batch_protocol import (
    MAX_BODY,
    Frame,
    FrameReader,
)
from htcgrid_agent.runtimes.permits import Permits
from htcgrid_agent.runtimes.python_runtime import (
    ERROR,
    HEAD,
    RESULT,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_events import FailureKind, OutcomeCode, TaskError

WARM = 200
"""So many short tasks, and the agent gives the next ones of the session in batches."""


def frame(kind: bytes, body: bytes, microseconds: int = 0) -> bytes:
    return HEAD.pack(kind, len(body), microseconds) + body


@given(
    st.lists(st.tuples(st.sampled_from([RESULT, ERROR]), st.binary(max_size=300), st.integers(0, 10**12))),
    st.lists(st.integers(1, 400)),
)
def test_frames_are_read_however_they_are_cut(told: list[tuple[bytes, bytes, int]], cuts: list[int]) -> None:
    stream = b"".join(frame(*each) for each in told)
    reader = FrameReader()
    read: list[Frame] = []
    lengths = deque(cuts)
    while stream:
        length = lengths.popleft() if lengths else len(stream)
        read += reader.feed(stream[:length])
        stream = stream[length:]
    assert [(each.kind, each.body, each.size, round(each.seconds * 1e6)) for each in read] == [
        (kind, body, len(body), microseconds) for kind, body, microseconds in told
    ]


@pytest.mark.parametrize("piece", [64 * 1024, 3 * MAX_BODY])
def test_a_body_that_is_too_large_is_counted_and_not_kept(piece: int) -> None:
    stream = frame(RESULT, b"x" * (MAX_BODY + 1)) + frame(RESULT, b"1")
    reader = FrameReader()
    read = [each for start in range(0, len(stream), piece) for each in reader.feed(stream[start : start + piece])]
    assert [(each.size, each.body) for each in read] == [(MAX_BODY + 1, b""), (1, b"1")]


def test_a_permit_is_taken_once() -> None:
    permits = Permits()
    permits.give(5)
    os.eventfd_read(permits.descriptor)
    assert permits.take_back(3) == 3
    assert permits.take_back(3) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(permits.descriptor)
    permits.close()


def test_batches_are_as_large_as_tasks_are_short() -> None:
    pace = BatchSizing()
    assert pace.batch_size("s") == 1
    for seconds, share in ((1e-5, 500), (1e-3, 15), (0.1, 1)):
        for _ in range(200):
            pace.record("s", seconds)
        assert share - 1 <= pace.batch_size("s") <= share
    assert pace.batch_size("other") == 1


def echo(value: object) -> dict[str, object]:
    return {"do": "echo", "value": value}


def warmed(place: Place, *events: dict[str, object], **options: Any) -> Session:
    """A session whose first chunk shows how short its tasks are, so that its second is run in batches."""
    return place.submit([echo(number) for number in range(WARM)], list(events), **options)


def noted(number: int, folder: Path) -> dict[str, object]:
    return echo(number) | {"note": str(folder / f"note-{number}")}


CULPRITS: list[tuple[dict[str, object], FailureKind, str]] = [
    ({"do": "segfault"}, FailureKind.CRASH, "Runtime.ExitError"),
    ({"do": "exit"}, FailureKind.CRASH, "Runtime.ExitError"),
    ({"do": "sys_exit"}, FailureKind.CRASH, "Runtime.ExitError"),
    ({"do": "hang"}, FailureKind.TIMEOUT, "Sandbox.Timedout"),
    ({"do": "nan"}, FailureKind.HANDLER, "Runtime.MarshalError"),
    ({"do": "large", "bytes": 10_000_000}, FailureKind.HANDLER, "Function.ResponseSizeTooLarge"),
    ({"do": "bytes", "value": "no json"}, FailureKind.HANDLER, "Runtime.MarshalError"),
    ({"do": "raise"}, FailureKind.HANDLER, "LookupError"),
]


@pytest.mark.parametrize(("culprit", "kind", "type_"), CULPRITS)
def test_a_culprit_in_a_batch_is_blamed_alone(
    place: Place, tmp_path: Path, culprit: dict[str, object], kind: FailureKind, type_: str
) -> None:
    place.agent(workers=1, runtime="python")
    before = [noted(number, tmp_path) for number in range(20)]
    after = [noted(number, tmp_path) for number in range(20, 40)]
    session = warmed(place, *before, culprit, *after, max_retries=0, timeout=4)
    results = place.results(session)[WARM:]
    error = results.pop(20)
    assert isinstance(error, TaskError)
    assert (error.kind, error.type, error.attempts) == (kind, type_, 1)
    assert results == list(range(40))
    # None has been run twice, neither those that had ended nor those that had not begun.
    assert {len((tmp_path / f"note-{number}").read_text().splitlines()) for number in range(40)} == {1}
    assert place.row(session, 1).tries == {20: 1}


def test_tasks_behind_a_long_one_are_run_elsewhere(place: Place, tmp_path: Path) -> None:
    place.agent(workers=2, runtime="python")
    gate = tmp_path / "gate"
    long: dict[str, object] = {"do": "wait", "until": str(gate), "value": "long", "note": str(tmp_path / "note-long")}
    session = warmed(place, long, *(noted(number, tmp_path) for number in range(60)))
    # All others end while the first goes on.
    until(lambda: all((tmp_path / f"note-{number}").exists() for number in range(60)))
    gate.touch()
    assert place.results(session)[WARM:] == ["long", *range(60)]
    # Both workers go on to something else, so neither has anything of the batch left to run.
    others = [tmp_path / "other-1", tmp_path / "other-2"]
    last = tmp_path / "last"
    place.submit(*([{"do": "wait", "until": str(last), "note": str(other)}] for other in others))
    until(lambda: all(other.exists() for other in others))
    last.touch()
    assert {len(note.read_text().splitlines()) for note in tmp_path.glob("note-*")} == {1}


def test_sigterm_hands_back_what_a_batch_has_not_begun(place: Place, tmp_path: Path) -> None:
    agent = place.agent(workers=1, runtime="python", grace_seconds=600, lease_seconds=600)
    gate, note = tmp_path / "gate", tmp_path / "note"
    waiting: dict[str, object] = {"do": "wait", "until": str(gate), "value": "run", "note": str(note)}
    session = warmed(place, waiting, *(noted(number, tmp_path) for number in range(10)))
    until(note.exists)
    agent.signal(signal.SIGTERM)
    until(lambda: agent.said("the agent stops"))
    gate.touch()
    assert agent.process.wait(60) == 0
    row = place.row(session, 1)
    assert (row.state, row.outcomes) == (ChunkState.RETRY, "C" + OutcomeCode.OPEN.value * 10)
    assert not list(tmp_path.glob("note-*"))
    place.agent(workers=1, runtime="python")
    assert place.results(session)[WARM:] == ["run", *range(10)]


def test_each_task_of_a_batch_has_its_own_time_and_context(place: Place) -> None:
    place.agent(workers=1, runtime="python")
    naps: list[dict[str, object]] = [{"do": "nap", "seconds": 0.4}] * 10
    session = warmed(place, {"do": "facts"}, *naps, {"do": "facts"}, timeout=3, max_retries=0)
    results = place.results(session)[WARM:]
    first, last = results[0], results[-1]
    # Together they take longer than one may, and one has the same time in front of it as another.
    assert results[1:-1] == ["rested"] * 10
    assert 1_000 < last["remaining_ms"] <= 3_000
    assert first["request_id"] != last["request_id"]
    assert first["custom"]["htcgrid_task_id"] == f"{session.session_id}_{WARM}"
    assert last["custom"]["htcgrid_task_id"] == f"{session.session_id}_{WARM + 11}"
