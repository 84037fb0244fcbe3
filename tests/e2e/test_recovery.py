"""What nobody takes care of any more is found by the workflow that runs once a minute."""

import time
from pathlib import Path
from typing import Any

import pytest

from htcgrid import Grid
from htcgrid_controlplane.chunks import ChunkKey
from htcgrid_controlplane.lease_store import INDEX
from htcgrid_controlplane.leases import GRACE
from htcgrid_events import SessionState
from htcgrid_local import LocalGrid
from tests.e2e.waiting import until

pytestmark = [pytest.mark.grid, pytest.mark.timeout(180)]


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


def test_a_chunk_whose_agent_died_and_whose_message_is_gone_is_run_again(
    grid: Grid, local_grid: LocalGrid, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    session = grid.submit([{"do": "sleep", "seconds": 5, "note": str(note), "value": "done"}], timeout=150)
    key = ChunkKey(session.id, 0)
    until(note.exists)
    until(lambda: "lease_shard" in row(local_grid, key))
    owner = row(local_grid, key)["owner"]["S"]
    local_grid.kill_agent(int(owner.split("-")[1]))
    local_grid.client("sqs").purge_queue(QueueUrl=local_grid.outputs["TaskQueueNormalUrl"])
    expire(local_grid, key)
    run(local_grid)
    assert session.results(timeout=90) == ["done"]
    assert session.wait(timeout=30).state is SessionState.COMPLETED
    record = session.task(0)
    assert record.attempts == 2
    assert record.owner != owner
    assert "lease_shard" not in row(local_grid, key)


def test_a_run_that_finds_nothing_calls_no_function(local_grid: LocalGrid) -> None:
    logs = local_grid.client("logs")
    group = next(
        each["logGroupName"]
        for each in logs.describe_log_groups()["logGroups"]
        if "ExpiredLeasesLogs" in each["logGroupName"]
    )
    before = len(logs.filter_log_events(logGroupName=group)["events"])
    run(local_grid)
    assert len(logs.filter_log_events(logGroupName=group)["events"]) == before


def test_the_index_is_deployed_as_the_code_expects_it(local_grid: LocalGrid) -> None:
    table = local_grid.client("dynamodb").describe_table(TableName=local_grid.outputs["ChunksTable"])["Table"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == [INDEX]
