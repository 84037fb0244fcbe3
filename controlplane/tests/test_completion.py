"""Finished chunks are counted once, announced to whoever asked, and the last one wakes the lifecycle."""

import json
from dataclasses import replace
from http import HTTPStatus

import pytest
from tests.support.control_plane_harness import FAILURE, TENANT, Harness

from htcgrid_chunks.chunk import ChunkKey, Payload
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_dataplane import encode_lines
from htcgrid_events import Account, BusEvent, ChunkOutcome, ChunksFrame, FailedTask, TasksFailed, TasksRetrying, new_id


def tasks(harness: Harness, session_id: str) -> Account:
    session = harness.grid.sessions.read(session_id)
    return harness.grid.queries.status(session).account


def pushed(harness: Harness, connection: str) -> list[ChunkOutcome]:
    frames = harness.push.frames[connection]
    return [outcome for frame in frames if isinstance(frame, ChunksFrame) for outcome in frame.outcomes]


def test_events_are_counted_once_however_they_come(harness: Harness) -> None:
    session = harness.create(2, 3, 1)
    outcomes = harness.finish(session, {0: "CC", 1: "CFC", 2: "F"})
    harness.record(session, outcomes[:2])
    harness.record(session, [*outcomes[:2], outcomes[0]])
    assert tasks(harness, session.session_id) == Account(submitted=6, completed=4, failed=1)
    assert harness.read(session).end_reason is None
    harness.record(session, outcomes[1:])
    assert tasks(harness, session.session_id) == Account(submitted=6, completed=4, failed=2)
    assert harness.read(session).all_finished


def test_a_session_of_many_buckets_is_done_with_its_last_chunk(harness: Harness) -> None:
    session = harness.create(*[1] * 130)
    outcomes = harness.finish(session, dict.fromkeys(range(130), "C"))
    harness.record(session, outcomes[:128])
    assert harness.read(session).full_buckets == {0}
    harness.record(session, outcomes[128:129])
    assert not harness.read(session).all_finished
    harness.record(session, outcomes[129:])
    assert harness.read(session).all_finished


@pytest.mark.parametrize("finished_first", [True, False])
def test_a_session_that_is_closed_late_is_done_in_either_order(harness: Harness, finished_first: bool) -> None:
    session = harness.create(1, 1, close=False)
    outcomes = harness.finish(session, {0: "C", 1: "C"})
    harness.record(session, outcomes[:1])
    if finished_first:
        harness.record(session, outcomes[1:])
        assert harness.read(session).end_reason is None
    harness.create(1, 1, session_id=session.session_id)
    if not finished_first:
        assert harness.read(session).end_reason is None
        harness.record(session, outcomes[1:])
    assert harness.read(session).all_finished


def test_a_session_tells_on_which_versions_of_the_function_its_tasks_ran(harness: Harness) -> None:
    session = harness.create(1, 1, 1)

    def digests() -> tuple[str, ...]:
        return harness.grid.queries.status(harness.read(session)).function_digests

    def finish(chunk: int, *ran: str) -> None:
        [lease] = harness.claim(session, chunk)
        harness.grid.chunks.finish([(lease, harness.progress("C", function_digests=ran))])
        outcome = harness.row(session, chunk).outcome()
        assert outcome.function_digests == ran
        harness.record(session, [outcome])
        harness.record(session, [outcome])

    assert digests() == ()
    finish(0, "bb")
    assert digests() == ("bb",)
    finish(1)
    assert digests() == ("bb",)
    finish(2, "bb", "aa")
    assert digests() == ("aa", "bb")
    harness.events()
    harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert digests() == ("aa", "bb")
    harness.grid.lifecycle.announce(session.session_id)
    [(_, detail)] = harness.events()
    assert detail["function_digests"] == ["aa", "bb"]
    assert harness.grid.queries.task(TENANT, session.session_id, 2).function_digests == ("bb", "aa")


def test_an_event_that_its_row_does_not_bear_out_counts_nothing(harness: Harness) -> None:
    session, other = harness.create(1, 2, subscriber_id=harness.connect("owner")), harness.create(1, 1, 1)
    harness.claim(session, 0)
    forged = [
        outcome.model_copy(update={"chunk": chunk})
        for outcome in harness.finish(other, {2: "C"})
        for chunk in (0, 1, 2, 129)
    ]
    harness.events()
    harness.record(session, forged)
    assert tasks(harness, session.session_id) == Account(submitted=3)
    assert harness.read(session).end_reason is None
    assert (pushed(harness, "owner"), harness.events()) == ([], [])


def test_what_is_counted_and_pushed_is_what_the_row_says(harness: Harness) -> None:
    session = harness.create(2, subscriber_id=harness.connect("owner"))
    [outcome] = harness.finish(session, {0: "CF"})
    lies = {"outcomes": "CCC", "results": b"lies", "attempt": 9, "agent": "nobody", "first_task": 5}
    harness.record(session, [outcome.model_copy(update=lies), outcome.model_copy(update={"outcomes": "FF"})])
    assert tasks(harness, session.session_id) == Account(submitted=2, completed=1, failed=1)
    [told] = pushed(harness, "owner")
    assert told == outcome.model_copy(
        update={"stages": outcome.stages.model_copy(update={"notified_at": harness.clock()})}
    )


def test_a_row_that_was_never_submitted_is_not_counted(harness: Harness) -> None:
    session = harness.create(1, 1, close=False)
    left = replace(harness.row(session, 1), key=ChunkKey(session.session_id, 2), first_task=2)
    harness.grid.chunks.insert([left])
    harness.record(session, harness.finish(session, {0: "C", 2: "C"}))
    account = harness.grid.accounts.read(session, [0])[0]
    assert (set(account.finished), account.tasks) == ({0}, Account(submitted=2, completed=1))


def test_retries_are_announced_in_the_name_of_the_owner(harness: Harness) -> None:
    session = harness.create(1)
    harness.events()
    failed = FailedTask(task_id=f"{session.session_id}_0", kind="handler", type="T", message="m", attempts=1)
    told = {"chunk": 0, "attempt": 1, "retry_at": harness.clock(), "tasks": [failed], "failed": 1}
    event = TasksRetrying(session_id=session.session_id, tenant="somebody else", **told)
    harness.grid.completions.announce_retries(session.session_id, [event])
    harness.grid.completions.announce_retries(new_id(), [event])
    assert [(name, detail["tenant"]) for name, detail in harness.events()] == [("Tasks Retrying", TENANT)]


def test_failures_are_always_announced_and_completions_on_request(harness: Harness) -> None:
    quiet, loud = harness.create(2), harness.create(2, publish_completions=True)
    harness.events()
    harness.record(quiet, harness.finish(quiet, {0: "CC"}))
    assert harness.events() == []
    harness.record(loud, harness.finish(loud, {0: "CF"}))
    events = dict(harness.events())
    assert set(events) == {"Tasks Failed", "Chunk Completed"}
    assert events["Chunk Completed"]["outcomes"] == "CF"
    failed = TasksFailed.model_validate_json(json.dumps(events["Tasks Failed"]))
    assert (failed.failed, failed.tenant, failed.chunk) == (1, TENANT, 0)
    assert [(task.task_id, task.type, task.message) for task in failed.tasks] == [
        (f"{loud.session_id}_1", FAILURE.type, FAILURE.message)
    ]


def test_failures_in_the_data_plane_are_announced_by_their_number(harness: Harness) -> None:
    session = harness.create(3)
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.finish([(lease, harness.progress("FCF", results=Payload(stored_bytes=9)))])
    harness.events()
    harness.record(session, [harness.row(session).outcome()])
    [(name, detail)] = harness.events()
    assert (name, detail["failed"], detail["tasks"]) == ("Tasks Failed", 2, [])


def test_many_failures_alike_fit_on_the_bus(harness: Harness) -> None:
    session = harness.create(*[1000] * 10)
    long = FAILURE.model_copy(update={"message": "m" * 2000, "type": "T" * 2000})
    results = Payload(encode_lines([long.model_dump_json().encode()] * 1000))
    leases = harness.claim(session, *range(10))
    harness.grid.chunks.finish([(each, harness.progress("F" * 1000, results=results)) for each in leases])
    harness.events()
    harness.record(session, [harness.row(session, chunk).outcome() for chunk in range(10)])
    details = [detail for _, detail in harness.events()]
    assert [detail["failed"] for detail in details] == [1000] * 10
    assert all(0 < len(detail["tasks"]) < 1000 for detail in details)
    assert harness.read(session).all_finished


def test_whoever_follows_a_session_is_pushed_its_outcomes(harness: Harness) -> None:
    session = harness.create(1, 1, subscriber_id=harness.connect("one"))
    harness.grid.queries.follow(TENANT, session.session_id, harness.connect("two"))
    harness.connect("stranger")
    outcomes = harness.finish(session, {0: "C", 1: "F"})
    harness.clock.advance(7)
    harness.record(session, outcomes)
    assert pushed(harness, "one") == pushed(harness, "two")
    assert [(outcome.chunk, outcome.results) for outcome in pushed(harness, "one")] == [
        (outcome.chunk, outcome.results) for outcome in outcomes
    ]
    assert {outcome.stages.notified_at for outcome in pushed(harness, "one")} == {harness.clock()}
    assert pushed(harness, "stranger") == []


def test_a_connection_that_is_gone_holds_up_nobody(harness: Harness) -> None:
    gone = harness.connect("gone")
    session = harness.create(1, 1, subscriber_id=gone)
    harness.grid.queries.follow(TENANT, session.session_id, harness.connect("here"))
    harness.push.gone.add("gone")
    outcomes = harness.finish(session, {0: "C", 1: "C"})
    harness.record(session, outcomes[:1])
    assert len(pushed(harness, "here")) == 1
    assert harness.grid.subscribers.connections(TENANT, [gone]) == {}
    harness.record(session, outcomes[1:])
    assert harness.read(session).all_finished


def test_results_too_large_for_a_frame_are_left_to_be_fetched(harness: Harness) -> None:
    session = harness.create(1, subscriber_id=harness.connect("one"))
    [lease] = harness.claim(session, 0)
    harness.grid.chunks.finish([(lease, harness.progress("C", results=Payload(b"r" * 130_000)))])
    harness.record(session, [harness.row(session).outcome()])
    [outcome] = pushed(harness, "one")
    assert (outcome.results, outcome.stored_bytes) == (None, 130_000)


def test_events_of_a_session_that_is_not_there_are_not_swallowed(harness: Harness) -> None:
    session = harness.create(1)
    outcomes = harness.finish(session, {0: "C"})
    with pytest.raises(SessionNotFound):
        harness.grid.completions.record(new_id(), outcomes)


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR])
def test_a_push_that_is_refused_costs_only_itself(harness: Harness, status: HTTPStatus) -> None:
    refused, well = harness.connect(f"refused-{status}"), harness.connect(f"well-{status}")
    session = harness.create(1, 1, subscriber_id=refused)
    harness.grid.queries.follow(TENANT, session.session_id, well)
    harness.push.failing[f"refused-{status}"] = status
    harness.record(session, harness.finish(session, {0: "F"}))
    assert [outcome.chunk for outcome in pushed(harness, f"well-{status}")] == [0]
    assert [name for name, _ in harness.events()] == ["Session Created", "Tasks Failed"]
    harness.push.failing.clear()
    harness.record(session, harness.finish(session, {1: "C"}))
    assert [outcome.chunk for outcome in pushed(harness, f"refused-{status}")] == [1]


def test_a_session_ends_though_the_bus_refuses_its_last_outcome(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []

    def refuse(bus: EventBus, events: list[BusEvent]) -> None:
        raise StorageUnavailable("no")

    session = harness.create(1)
    [outcome] = harness.finish(session, {0: "F"})
    with monkeypatch.context() as patch:
        patch.setattr(EventBus, "put", refuse)
        patch.setattr(type(harness.grid.waker), "wake", lambda waker, session: woken.append(session.session_id))
        with pytest.raises(StorageUnavailable):
            harness.record(session, [outcome])
    assert woken == [session.session_id]
    harness.record(session, [outcome])
    assert "Tasks Failed" in [name for name, _ in harness.events()]


def test_errors_that_cannot_be_read_are_counted_and_hold_up_nothing(harness: Harness) -> None:
    session = harness.create(2, 2)
    lines = [FAILURE.to_json().encode(), rb'{"type": "bad \ud800"']
    leases = harness.claim(session, 0, 1)
    results = [Payload(encode_lines(lines)), Payload(b"no zlib")]
    harness.grid.chunks.finish(
        [(lease, harness.progress("FF", results=each)) for lease, each in zip(leases, results, strict=True)]
    )
    harness.record(session, [harness.row(session, chunk).outcome() for chunk in (0, 1)])
    told = [detail for name, detail in harness.events() if name == "Tasks Failed"]
    assert [(each["failed"], len(each["tasks"])) for each in told] == [(2, 1), (2, 0)]
    assert tasks(harness, session.session_id) == Account(submitted=4, failed=4)
