"""What finished attempts tell of the work of partitions: gathered in memory, written now and then."""

import boto3
import pytest
from tests.support.control_plane_harness import START, HandClock, Harness, create_table

from htcgrid_controlplane.rules.scaling import Work, WorkedMinute
from htcgrid_controlplane.services.measuring import Measurements
from htcgrid_controlplane.storage.partitions import PartitionStore, minute_of
from htcgrid_events import ChunkFinished, WorkDone, new_id

MINUTE = minute_of(START)


@pytest.fixture
def store(empty_dynamodb: None) -> PartitionStore:
    return PartitionStore(boto3.client("dynamodb"), create_table("PartitionsTable", f"partitions-{new_id()}"))


def test_one_write_holds_what_many_chunks_told_and_the_next_comes_ten_seconds_later(store: PartitionStore) -> None:
    clock = HandClock()
    measurements = Measurements(store, clock)
    for _ in range(3):
        measurements.add("default", Work(1, 50, 70_000))
    measurements.add("other", Work(1, 1, 5))
    measurements.write()
    assert store.last_minutes("default", 9) == [WorkedMinute(MINUTE, Work(3, 150, 210_000))]
    assert store.last_minutes("other", 9) == [WorkedMinute(MINUTE, Work(1, 1, 5))]
    clock.advance(9_999)
    measurements.add("default", Work(1, 1, 1))
    measurements.write()
    assert store.last_minutes("default", 9) == [WorkedMinute(MINUTE, Work(3, 150, 210_000))]
    clock.advance(1)
    measurements.write()
    measurements.write()
    assert store.last_minutes("default", 9) == [WorkedMinute(MINUTE, Work(4, 151, 210_001))]


def test_processes_add_to_one_row_and_a_minute_has_a_row_of_its_own(store: PartitionStore) -> None:
    clock = HandClock()
    for _ in range(2):
        process = Measurements(store, clock)
        process.add("default", Work(2, 4, 8))
        process.write()
    store.note_in_flight("default", MINUTE, 7)
    clock.advance(60_000)
    process.add("default", Work(1, 1, 1))
    process.write()
    newest = WorkedMinute(MINUTE + 1, Work(1, 1, 1))
    assert store.last_minutes("default", 9) == [newest, WorkedMinute(MINUTE, Work(4, 8, 16), 7)]
    assert store.last_minutes("default", 1) == [newest]


def test_a_row_is_forgotten_after_a_week(store: PartitionStore) -> None:
    store.note_in_flight("default", MINUTE, 7)
    store.add_work("default", MINUTE + 1, Work(1, 1, 1))
    rows = boto3.client("dynamodb").query(
        TableName=store._table,
        KeyConditionExpression="#partition = :name",
        ExpressionAttributeNames={"#partition": "partition"},
        ExpressionAttributeValues={":name": {"S": "default"}},
        ConsistentRead=True,
    )["Items"]
    assert [int(each["expires_at"]["N"]) // 60 for each in rows] == [MINUTE + 10_080, MINUTE + 10_081]


def test_what_cannot_be_written_is_kept_for_later_and_harms_nobody(store: PartitionStore) -> None:
    clock = HandClock()
    measurements = Measurements(store, clock)
    table, store._table = store._table, "gone"
    measurements.add("default", Work(1, 2, 3))
    measurements.write()
    store._table = table
    measurements.write()
    assert store.last_minutes("default", 9) == [], "not at once"
    clock.advance(10_000)
    measurements.write()
    assert store.last_minutes("default", 9) == [WorkedMinute(minute_of(clock.now), Work(1, 2, 3))]


def measured(harness: Harness) -> Work:
    """What was noted by this test's control plane."""
    harness.clock.advance(10_000)
    harness.grid.measurements.write()
    seen = harness.grid.partitions.last_minutes("default", 100)
    return sum((each.work for each in seen), Work())


def test_completions_note_what_workers_did_also_in_attempts_that_leave_tasks_open(own_harness: Harness) -> None:
    harness = own_harness
    session = harness.create(3, 2)
    outcomes = harness.finish(session, {0: "CCC"})
    harness.grid.completions.record(session.session_id, outcomes, [WorkDone(tasks=3, worker_us=1_500)])
    [retrying] = harness.retry(session, {1: "CQ"})
    event = retrying.model_copy(update={"work": WorkDone(tasks=2, worker_us=500)})
    harness.grid.completions.announce_retries(session.session_id, [event])
    assert measured(harness) == Work(2, 5, 2_000)


def test_an_event_without_work_of_an_agent_before_this_release_or_repeated_tells_nothing(own_harness: Harness) -> None:
    session = own_harness.create(1)
    [outcome] = own_harness.finish(session, {0: "C"})
    body = ChunkFinished(session_id=session.session_id, outcome=outcome).model_dump_json(exclude={"work"})
    event = ChunkFinished.model_validate_json(body)
    own_harness.grid.completions.record(session.session_id, [event.outcome], [event.work])
    assert measured(own_harness) == Work()


def test_no_more_is_believed_than_a_chunk_can_hold_and_its_tasks_may_take(own_harness: Harness) -> None:
    session = own_harness.create(1, task_timeout_seconds=10)
    outcomes = own_harness.finish(session, {0: "C"})
    lie = WorkDone(tasks=10**40, worker_us=10**60)
    own_harness.grid.completions.record(session.session_id, outcomes, [lie])
    assert measured(own_harness) == Work(1, 1_000, 10_000_000_000)
