"""What nobody takes care of any more is found by the workflow that runs once a minute."""

import time
from pathlib import Path
from typing import Any

import pytest

from htcgrid import Grid
from htcgrid_chunks.chunk import ChunkKey
from htcgrid_chunks.lease_rules import GRACE
from htcgrid_events import SessionState
from htcgrid_local import LocalGrid
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def run(local_grid: LocalGrid) -> None:
    """What the schedule does once a minute."""
    states = local_grid.client("stepfunctions")
    execution = states.start_execution(stateMachineArn=local_grid.outputs["ExpiredLeasesArn"])["executionArn"]
    until(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    assert states.describe_execution(executionArn=execution)["status"] == "SUCCEEDED"


def row(local_grid: LocalGrid, key: ChunkKey) -> dict[str, Any]:
    found = local_grid.client("dynamodb").get_item(
        TableName=local_grid.outputs["ChunksTable"],
        Key={"bucket": {"S": key.partition_key}, "chunk": {"N": str(key.chunk)}},
    )
    return dict(found["Item"])


def expire(local_grid: LocalGrid, key: ChunkKey) -> None:
    """Let a lease end so long ago that nobody waits any more."""
    past = int((time.time() - 2 * GRACE.total_seconds()) * 1000)
    local_grid.client("dynamodb").update_item(
        TableName=local_grid.outputs["ChunksTable"],
        Key={"bucket": {"S": key.partition_key}, "chunk": {"N": str(key.chunk)}},
        UpdateExpression="SET claimable_at = :past",
        ExpressionAttributeValues={":past": {"N": str(past)}},
    )


def pretend_time_has_passed(local_grid: LocalGrid, session_id: str) -> None:
    """Let a session's chunks be old enough to be missed, and its first sweep be due."""
    dynamodb, chunks = local_grid.client("dynamodb"), local_grid.outputs["ChunksTable"]
    for chunk in range(2):
        dynamodb.update_item(
            TableName=chunks,
            Key={"bucket": {"S": f"{session_id}#0"}, "chunk": {"N": str(chunk)}},
            UpdateExpression="SET submitted_at = :past",
            ExpressionAttributeValues={":past": {"N": "1"}},
        )
    dynamodb.update_item(
        TableName=local_grid.outputs["SessionsTable"],
        Key={"session_id": {"S": session_id}},
        UpdateExpression="SET sweep_at = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


def test_a_chunk_whose_agent_died_and_whose_message_is_gone_is_run_again(
    grid: Grid, local_grid: LocalGrid, tmp_path: Path
) -> None:
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = grid.submit([{"do": "wait", "note": str(note), "until": str(gate), "value": "done"}], timeout=150)
    key = ChunkKey(session.id, 0)
    until(note.exists)
    until(lambda: "lease_shard" in row(local_grid, key))
    owner = row(local_grid, key)["owner"]["S"]
    local_grid.kill_agent(int(owner.split("-")[1]))
    local_grid.client("sqs").purge_queue(QueueUrl=local_grid.outputs["TaskQueueNormalUrl"])
    expire(local_grid, key)
    run(local_grid)
    gate.touch()
    assert session.results(timeout=90) == ["done"]
    assert session.wait(timeout=60).state is SessionState.COMPLETED
    record = session.task(0)
    assert record.attempt == 2
    assert record.owner != owner
    assert "lease_shard" not in row(local_grid, key)


def test_a_chunk_whose_message_is_gone_before_any_agent_saw_it_is_run(grid: Grid, local_grid: LocalGrid) -> None:
    local_grid.stop_agents()
    try:
        session = grid.submit([{"value": 1}, {"value": 2}], chunk_size=1, timeout=150)
        local_grid.client("sqs").purge_queue(QueueUrl=local_grid.outputs["TaskQueueNormalUrl"])
        pretend_time_has_passed(local_grid, session.id)
        run(local_grid)
    finally:
        for _ in range(2):
            local_grid.start_agent()
    assert session.results(timeout=90) == [1, 2]
    assert session.wait(timeout=60).state is SessionState.COMPLETED


def test_a_run_that_finds_nothing_calls_no_function(local_grid: LocalGrid) -> None:
    before = log_lines(local_grid)
    assert before, "the runs above called it"
    run(local_grid)
    assert log_lines(local_grid) == before


def log_lines(local_grid: LocalGrid) -> int:
    logs = local_grid.client("logs")
    [group] = [
        name
        for name in (group["logGroupName"] for group in logs.describe_log_groups()["logGroups"])
        if "ExpiredLeasesLogs" in name
    ]
    return len(logs.filter_log_events(logGroupName=group)["events"])
