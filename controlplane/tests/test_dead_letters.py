"""Dead letters: kept as the row says, once, however often asked; listed in pages; forgotten for good."""

from typing import Any

import pytest
from tests.support.control_plane_harness import TENANT, Harness, inputs

from htcgrid_chunks.chunk import Payload
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.dead_letters import MAX_CHUNKS
from htcgrid_controlplane.storage.dead_letters import DeadLetterStore
from htcgrid_dataplane import encode_lines, result_key
from htcgrid_events import (
    AddChunks,
    DeadLetter,
    DeadLetterPage,
    FailureKind,
    PurgeTasks,
    TaskDeadLettered,
    TaskError,
    new_id,
)


def line(type_: str, message: str = "no") -> bytes:
    frame = f'  File "/var/task/handler.py", line 3, in {type_.lower()}'
    error = TaskError(kind=FailureKind.HANDLER, type=type_, message=message, trace=(frame,), attempts=3, agent="a-1")
    return error.model_dump_json().encode()


def fail(harness: Harness, session: Session, chunk: int, lines: list[bytes], **more: Any) -> None:
    """Finish a chunk whose tasks failed with these errors; those with an empty line completed."""
    [lease] = harness.claim(session, chunk)
    codes = "".join("F" if each else "C" for each in lines)
    results = Payload(encode_lines([each or b"1" for each in lines]))
    assert all(harness.grid.chunks.finish([(lease, harness.progress(codes, **{"results": results, **more}))]))
    harness.record(session, [harness.row(session, chunk).outcome()])


def record(harness: Harness, session: Session, chunk: int = 0) -> TaskDeadLettered | None:
    return harness.grid.dead_letters.record(session.session_id, chunk)


def listed(harness: Harness, session: Session) -> list[DeadLetter]:
    """All letters, page by page."""
    letters: list[DeadLetter] = []
    page = DeadLetterPage(letters=(), next_bucket=0, next_after=-1)
    while page.next_bucket is not None:
        assert page.next_after is not None
        page = harness.grid.dead_letters.page(TENANT, session.session_id, page.next_bucket, page.next_after)
        letters += page.letters
    return letters


def purge(harness: Harness, session: Session, **selection: Any) -> int:
    return harness.grid.dead_letters.purge(TENANT, session.session_id, PurgeTasks(**selection)).tasks


def test_failed_tasks_are_kept_by_fingerprint_with_what_is_known_of_them(harness: Harness) -> None:
    session = harness.create(2, 4)
    fail(harness, session, 1, [line("KeyError", "eur"), b"", line("ValueError"), line("KeyError", "usd")])
    told = record(harness, session, 1)
    assert told is not None
    first, second = told.letters
    assert (first.type, first.message, first.tasks, first.chunk) == ("KeyError", "eur", (2, 5), 1)
    assert (second.type, second.tasks) == ("ValueError", (4,))
    assert (first.attempts, first.agent, first.recorded_at) == (3, "a-1", harness.clock())
    assert first.fingerprint != second.fingerprint
    assert told.failed == 3
    assert listed(harness, session) == [first, second]


def test_recording_again_changes_nothing_and_tells_the_same(harness: Harness) -> None:
    session = harness.create(1)
    fail(harness, session, 0, [line("KeyError")])
    told = record(harness, session)
    harness.clock.advance(5_000)
    store = harness.grid.dead_letters.store
    before = store.read(session, 0)
    assert record(harness, session) == told
    assert store.read(session, 0) == before


def test_there_is_nothing_to_record_where_nothing_failed_or_is_left(harness: Harness) -> None:
    session = harness.create(1, 1)
    harness.record(session, harness.finish(session, {0: "C"}))
    assert record(harness, session, 0) is None
    assert record(harness, session, 1) is None
    assert record(harness, session, 7) is None
    assert harness.grid.dead_letters.record(new_id(), 0) is None
    assert listed(harness, session) == []


@pytest.mark.parametrize("stored", [True, False])
def test_errors_in_the_data_plane_are_read_there_and_missed_there(harness: Harness, stored: bool) -> None:
    session = harness.create(2)
    data = encode_lines([line("KeyError"), b"1"])
    if stored:
        harness.grid.bucket.put(result_key(TENANT, session.session_id, 0, 1), data)
    fail(harness, session, 0, [line("KeyError"), b""], results=Payload(stored_bytes=len(data)))
    told = record(harness, session)
    assert told is not None
    [letter] = told.letters
    assert (letter.type, letter.tasks) == ("KeyError" if stored else "HTCGrid.ErrorLost", (0,))


def test_a_thousand_kinds_of_failure_fit_into_an_item_and_an_event(harness: Harness) -> None:
    session = harness.create(1_000)
    noise = [line(f"Error{chr(0x4E00 + number)}", chr(0x4E00 + number) * 16_000) for number in range(1_000)]
    data = encode_lines(noise)
    harness.grid.bucket.put(result_key(TENANT, session.session_id, 0, 1), data)
    fail(harness, session, 0, [b"F"] * 1_000, results=Payload(stored_bytes=len(data)))
    told = record(harness, session)
    assert told is not None
    assert told.failed == 1_000 > len(told.letters) > 10
    assert len(listed(harness, session)) == 1_000
    harness.grid.bus.put([told])


def test_letters_come_in_pages_over_buckets(harness: Harness) -> None:
    session = harness.create(*[1] * (MAX_CHUNKS + 2), close=False)
    far = 32 * 128
    harness.grid.submissions.add(TENANT, session.session_id, AddChunks(chunks=inputs(1, first_chunk=far)))
    failing = [*range(MAX_CHUNKS + 2), far]
    harness.record(session, harness.finish(session, dict.fromkeys(failing, "F")))
    for chunk in failing:
        record(harness, session, chunk)
    assert [letter.chunk for letter in listed(harness, session)] == failing
    page = harness.grid.dead_letters.page(TENANT, session.session_id, 0, 5)
    assert page.letters[0].chunk == 6


def test_purged_letters_are_forgotten_for_good(harness: Harness) -> None:
    session = harness.create(3)
    fail(harness, session, 0, [line("KeyError"), line("KeyError"), line("ValueError")])
    told = record(harness, session)
    assert told is not None
    assert purge(harness, session, tasks=(1, 77)) == 1
    assert [letter.tasks for letter in listed(harness, session)] == [(0,), (2,)]
    again = record(harness, session)
    assert again is not None
    assert [letter.tasks for letter in again.letters] == [(0,), (2,)]
    assert purge(harness, session, fingerprint="0" * 16) == 0
    assert purge(harness, session, fingerprint=told.letters[1].fingerprint) == 1
    assert purge(harness, session) == 1
    assert purge(harness, session) == 0
    assert record(harness, session) is None
    assert listed(harness, session) == []
    assert harness.row(session).outcomes == "FFF"
    assert harness.grid.queries.status(harness.read(session)).account.failed == 3


def test_nobody_else_sees_or_purges_letters(harness: Harness) -> None:
    session = harness.create(1)
    fail(harness, session, 0, [line("KeyError")])
    record(harness, session)
    for tenant, session_id in (("thief", session.session_id), (TENANT, new_id())):
        with pytest.raises(SessionNotFound):
            harness.grid.dead_letters.page(tenant, session_id, 0, -1)
        with pytest.raises(SessionNotFound):
            harness.grid.dead_letters.purge(tenant, session_id, PurgeTasks())
    assert len(listed(harness, session)) == 1


def test_who_was_overtaken_reads_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    session = harness.create(2)
    fail(harness, session, 0, [line("KeyError"), line("ValueError")])
    write = DeadLetterStore.write
    overtaken = False

    def overtake(store: DeadLetterStore, *what: Any) -> bool:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            record(harness, session)
            purge(harness, session, tasks=(1,))
        return write(store, *what)

    monkeypatch.setattr(DeadLetterStore, "write", overtake)
    told = record(harness, session)
    assert told is not None
    assert [letter.tasks for letter in told.letters] == [(0,)] == [letter.tasks for letter in listed(harness, session)]


def test_who_asks_before_the_workflow_has_come_finds_everything_all_the_same(harness: Harness) -> None:
    session = harness.create(2, 1, 1)
    fail(harness, session, 0, [line("ValueError"), b""])
    fail(harness, session, 2, [line("KeyError")])
    record(harness, session, 0)
    assert [(letter.chunk, letter.tasks) for letter in listed(harness, session)] == [(0, (0,)), (2, (3,))]


def test_what_was_purged_is_not_found_again(harness: Harness) -> None:
    session = harness.create(1, 1)
    fail(harness, session, 0, [line("ValueError")])
    fail(harness, session, 1, [line("ValueError")])
    assert purge(harness, session, tasks=(0,)) == 1
    assert [letter.chunk for letter in listed(harness, session)] == [1]
    assert purge(harness, session) == 1
    assert listed(harness, session) == []


def test_listing_finds_what_is_not_recorded_yet_and_writes_nothing(harness: Harness) -> None:
    session = harness.create(*[1] * (MAX_CHUNKS + 20))
    harness.record(session, harness.finish(session, dict.fromkeys(range(MAX_CHUNKS + 20), "F")))
    for chunk in (1, 3, MAX_CHUNKS + 3):
        record(harness, session, chunk)
    store = harness.grid.dead_letters.store
    before = store.recorded(session, 0)
    assert [letter.chunk for letter in listed(harness, session)] == list(range(MAX_CHUNKS + 20))
    assert store.recorded(session, 0) == before
    assert set(before) == {1, 3, MAX_CHUNKS + 3}
