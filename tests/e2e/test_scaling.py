"""What the deployed function publishes about the work of a real grid."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from htcgrid import JSON, Grid
from htcgrid_local import LocalGrid
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def newest(local_grid: LocalGrid, *names: str) -> dict[str, float]:
    """The newest value of each metric of the default partition."""
    now = datetime.now(UTC)
    dimensions = [{"Name": "Grid", "Value": "htcgrid"}, {"Name": "Partition", "Value": "default"}]
    answer = local_grid.client("cloudwatch").get_metric_data(
        MetricDataQueries=[
            {
                "Id": name.lower(),
                "Label": name,
                "MetricStat": {
                    "Metric": {"Namespace": "HTCGrid", "MetricName": name, "Dimensions": dimensions},
                    "Period": 60,
                    "Stat": "Maximum",
                },
            }
            for name in names
        ],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
    )
    return {each["Label"]: each["Values"][0] for each in answer["MetricDataResults"] if each["Values"]}


def test_held_and_waiting_chunks_and_what_they_cost_are_published_under_the_role_of_the_function(
    grid: Grid, local_grid: LocalGrid, tmp_path: Path
) -> None:
    assert grid.submit([{"value": number} for number in range(40)], chunk_size=10).results(timeout=60)
    gate, notes = tmp_path / "gate", [tmp_path / f"running-{number}" for number in range(4)]
    tasks: list[JSON] = [{"do": "wait", "note": str(note), "until": str(gate)} for note in notes]
    session = grid.submit(tasks, chunk_size=1)
    until(lambda: all(note.exists() for note in notes))

    def told() -> bool:
        answer = local_grid.client("lambda").invoke(FunctionName=local_grid.outputs["ScalingFunctionName"])
        assert "FunctionError" not in answer, answer["Payload"].read()
        found = newest(local_grid, "InFlight", "DesiredAgents", "OutstandingSeconds", "AgentsPerMillionChunks")
        return len(found) == 4 and found["InFlight"] >= 4 and found["DesiredAgents"] >= 4 and min(found.values()) > 0

    # What the first session took is noted by whichever process counted it, at the latest with what it counts next.
    until(lambda: bool(grid.submit([{"value": 1}], chunk_size=1)) and told(), 120)
    gate.touch()
    assert session.results(timeout=60)
