"""Whole programs of the first HTC-Grid's kind, as processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from compat.tests.first_grid import config_of
from connector.tests.stub_grid import PASSWORD, USER, StubGrid

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def configuration(stub: StubGrid, tmp_path: Path) -> Path:
    """The configuration file of a grid that answers with the first argument of a task."""
    stub.handler = first_argument
    file = tmp_path / "agent_config.json"
    file.write_text(json.dumps(config_of(stub, username=USER, password=PASSWORD)))
    return file


def first_argument(event: object) -> object:
    assert isinstance(event, dict)
    return event["worker_arguments"][0]


def run(program: str, configuration: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAMS / program],
        env=os.environ | {"AGENT_CONFIG_FILE": str(configuration)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_program_that_reports_by_logging_is_heard(configuration: Path) -> None:
    done = run("simple_client.py", configuration)
    assert done.returncode == 0, done.stderr
    said = re.findall(
        r"^\d\d:\d\d:\d\d - INFO - simple_client\.py - <module>  - \d+ - (.*)$", done.stderr, re.MULTILINE
    )
    assert said[0] == "Simple Client"
    assert "'task_ids': [" in said[1]
    assert "'finished_OUTPUT': ['\"10\"', '\"20\"']" in said[2]
    assert said[3] == "finished: 2"


def test_logging_tells_no_secret_and_no_request(configuration: Path) -> None:
    said = run("simple_client.py", configuration).stderr
    assert PASSWORD not in said
    assert "HTTP Request" not in said


def test_a_program_that_has_set_up_logging_keeps_it() -> None:
    code = "import logging; logging.basicConfig(level=logging.ERROR); import api.connector; logging.info('heard')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""


def test_a_program_of_several_processes_has_its_results_verified(configuration: Path) -> None:
    done = run("batch_client.py", configuration)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["x3"] * 4
