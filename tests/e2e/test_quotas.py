"""Limits of a tenant on a running grid, with IAM: refused with a reason, waited for, and given back in the end."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from htcgrid import Grid, GridUnavailable, Profile, RequestRejected, Session
from htcgrid_events import new_id
from htcgrid_local import LocalGrid
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def counts(local_grid: LocalGrid, tenant: str) -> tuple[int, int]:
    """Open sessions and tasks that a tenant's row counts."""
    row = local_grid.client("dynamodb").get_item(
        TableName=local_grid.outputs["TenantsTable"], Key={"tenant": {"S": tenant}}, ConsistentRead=True
    )["Item"]
    return int(row["open_sessions"]["N"]), int(row["tasks"]["N"])


@pytest.fixture
def profile(local_grid: LocalGrid) -> Profile:
    return local_grid.add_user(f"limited-{new_id()}")


@pytest.fixture
def limited(local_grid: LocalGrid, profile: Profile) -> Iterator[Grid]:
    """The connection of a user who may have two open sessions, none of them of priority `high`. In the end he has
    none, and nothing is counted for him."""
    with Grid.connect(profile, request_timeout=60) as grid:
        tenant = grid.info().tenant
        limits = {"open_sessions": {"N": "2"}, "high_priority": {"BOOL": False}}
        local_grid.client("dynamodb").update_item(
            TableName=local_grid.outputs["TenantsTable"],
            Key={"tenant": {"S": tenant}},
            UpdateExpression="SET #limits = :limits",
            ExpressionAttributeNames={"#limits": "limits"},
            ExpressionAttributeValues={":limits": {"M": limits}},
        )
        yield grid
        until(lambda: counts(local_grid, tenant) == (0, 0))


def held(grid: Grid, folder: Path) -> Session:
    """A session that runs until the file `go` is in its folder."""
    return grid.submit([{"do": "wait", "note": str(folder / "runs"), "until": str(folder / "go")}], max_retries=3)


def test_a_submission_waits_until_a_session_of_the_tenant_has_ended(
    limited: Grid, local_grid: LocalGrid, tmp_path: Path
) -> None:
    first = held(limited, tmp_path)
    second = held(limited, tmp_path)
    assert counts(local_grid, limited.info().tenant) == (2, 2)
    with pytest.raises(RequestRejected, match="priority high"):
        limited.submit([1], priority="high")
    third: list[Session] = []
    submitting = threading.Thread(target=lambda: third.append(limited.submit([{"value": 7}])))
    submitting.start()
    (tmp_path / "go").touch()
    submitting.join()
    assert list(third[0].results()) == [7]
    for session in (first, second):
        session.wait()


def test_a_submission_gives_up_with_the_reason(
    limited: Grid, profile: Profile, local_grid: LocalGrid, tmp_path: Path
) -> None:
    sessions = [held(limited, tmp_path) for _ in range(2)]
    with (
        Grid.connect(profile, request_timeout=2) as hasty,
        pytest.raises(GridUnavailable, match="2 open sessions"),
    ):
        hasty.submit([1])
    # A host that dies takes nothing with it: the session is counted until its verdict, and no longer.
    until((tmp_path / "runs").exists)
    local_grid.kill_agent(0)
    sessions[1].cancel()
    (tmp_path / "go").touch()
    for session in sessions:
        session.wait()
