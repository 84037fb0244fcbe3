"""Programs of the first HTC-Grid's kind, with the configuration that the local grid wrote for them."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.connector import AWSConnector
from htcgrid_local import LocalGrid

pytestmark = [pytest.mark.grid, pytest.mark.timeout(180)]

_PROGRAM = Path(__file__).parents[2] / "compat/tests/programs/simple_client.py"
_DEAD_PROXY = "http://127.0.0.1:1"


@pytest.fixture
def connector(local_grid: LocalGrid) -> Iterator[AWSConnector]:
    connector = AWSConnector(json.loads(local_grid.first_grid_configuration.read_text()))
    connector.authenticate()
    yield connector
    connector.close()


def test_a_program_runs_as_it_stands_also_behind_a_proxy(local_grid: LocalGrid) -> None:
    environment = os.environ | {
        "AGENT_CONFIG_FILE": str(local_grid.first_grid_configuration),
        "HTTP_PROXY": _DEAD_PROXY,
        "HTTPS_PROXY": _DEAD_PROXY,
    }
    done = subprocess.run(
        [sys.executable, _PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r" - INFO - simple_client\.py - .* - finished: 2$", done.stderr, re.MULTILINE)


def test_more_tasks_under_a_session_id_of_its_own_making(connector: AWSConnector) -> None:
    session_id = str(uuid.uuid1())
    submissions = [
        connector.submit(
            connector.generate_user_task_json([{"value": value} for value in values])
            | {"session_id": session_id, "context": {"tasks_priority": 2}}
        )
        for values in ([1, 2], [3])
    ]
    assert [sent["task_ids"] for sent in submissions] == [[f"{session_id}_0", f"{session_id}_1"], [f"{session_id}_2"]]
    results = connector.get_results({"session_id": session_id}, timeout_sec=60)
    assert results["finished_OUTPUT"] == ["1", "2", "3"]
    assert connector.invoke_get_results_lambda({"session_id": session_id}) == results
    assert connector.cancel_sessions([str(uuid.uuid1()), session_id])[session_id]["total_cancelled_tasks"] == 0
